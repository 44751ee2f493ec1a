"""Payloads encrypted by a setting, with keys that come and go."""

from __future__ import annotations

import dataclasses

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.exceptions import ActivityError, ApplicationError

from activities.errors import KeyMissing, SettingInvalid
from activities.housekeeping.pages import PagesCodec
from activities.payloads.encryption import EncryptionCodec, new_key
from activities.payloads.reading import make_readable
from activities.values.converter import data_converter, message_of
from workflows.errors import SettingsInvalid
from workflows.serving.client import client_of_workers, converter_for

OLD, NEW = new_key(), new_key()


def converter(monkeypatch: pytest.MonkeyPatch, *keys: str) -> DataConverter:
    """Return what converts in a process with these keys."""
    monkeypatch.setenv("PAYLOAD_KEY", ",".join(keys))
    return converter_for(data_converter, PagesCodec())


@pytest.mark.parametrize("value", ["plain-text", {"deep": ["plain-text", 1.5, None]}, b"plain-text", None, ""])
async def test_what_is_sent_is_no_plain_text_and_arrives_as_it_was(
    value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = converter(monkeypatch, NEW)
    payloads = await made.encode([value])

    assert b"plain" not in payloads[0].SerializeToString()
    assert payloads[0].metadata["encryption-key-id"].decode() == NEW.partition(":")[0]
    assert await made.decode(payloads) == [value]


async def test_the_same_is_never_encrypted_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made = converter(monkeypatch, NEW)

    assert len({(await made.encode(["plain-text"]))[0].data for _ in range(20)}) == 20


async def test_an_old_key_decrypts_as_long_as_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    old = await converter(monkeypatch, OLD).encode(["plain-text"])
    both = converter(monkeypatch, NEW, OLD)

    assert await both.decode(old) == ["plain-text"]
    assert (await both.encode(["x"]))[0].metadata["encryption-key-id"].decode() == NEW.partition(":")[0]
    with pytest.raises(KeyMissing, match=f"'{OLD.partition(':')[0]}'.* has only {NEW.partition(':')[0]}"):
        await converter(monkeypatch, NEW).decode(old)
    with pytest.raises(KeyMissing, match="PAYLOAD_KEY is not set"):
        await converter(monkeypatch).decode(old)


async def test_what_was_sent_before_there_was_a_key_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = await converter(monkeypatch).encode(["plain-text"])

    assert await converter(monkeypatch, NEW).decode(plain) == ["plain-text"]


async def test_another_key_under_the_same_id_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    other = f"{NEW.partition(':')[0]}:{OLD.partition(':')[2]}"
    sent = await converter(monkeypatch, NEW).encode(["plain-text"])

    with pytest.raises(KeyMissing, match="another key had that id"):
        await converter(monkeypatch, other).decode(sent)


@pytest.mark.parametrize("at", [0, 13, -1])
async def test_a_payload_that_was_changed_is_refused(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = converter(monkeypatch, NEW)
    [payload] = await made.encode(["plain-text"])
    data = bytearray(payload.data)
    data[at] ^= 1

    with pytest.raises(KeyMissing, match="or the payload was changed"):
        await made.decode([Payload(metadata=payload.metadata, data=bytes(data))])


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("AAAA", "does not begin with an id"),
        ("id:AAAA", "3 bytes instead of 32"),
        ("id:???", "not base 64"),
        (f"{NEW},{NEW}", "twice"),
        ("a b:AAAA", "does not begin with an id"),
    ],
)
async def test_a_key_that_can_not_be_used_is_said_at_the_start(
    setting: str, why: str, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setenv("PAYLOAD_KEY", setting)

    with pytest.raises(SettingInvalid, match=f"{why}.*python -m console key"):
        EncryptionCodec.from_environment()
    with pytest.raises(SettingsInvalid, match=why):
        client_of_workers(client)


async def test_the_words_of_a_failure_and_of_its_causes_are_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    made, failure = converter(monkeypatch, NEW), Failure()
    try:
        try:
            raise LookupError("plain-cause")
        except LookupError as error:
            raise ApplicationError("plain-text", {"plain": 1}, type="Refused") from error
    except ApplicationError as error:
        await made.encode_failure(error, failure)

    assert b"plain" not in failure.SerializeToString()
    shown = HistoryEvent()
    shown.activity_task_failed_event_attributes.failure.CopyFrom(failure)
    await make_readable(shown, made)
    assert shown.activity_task_failed_event_attributes.failure.message == "plain-text"
    read = await made.decode_failure(failure)
    assert isinstance(read, ApplicationError)
    assert (read.message, read.type, read.details) == ("plain-text", "Refused", ({"plain": 1},))
    assert str(read.cause) == "LookupError: plain-cause"
    again = Failure()  # as a run does that ends with the failure of a call
    await made.encode_failure(read, again)
    assert b"plain" not in again.SerializeToString()
    assert str((await made.decode_failure(again)).__cause__) == "LookupError: plain-cause"


async def test_a_failure_that_is_not_encrypted_says_what_it_says() -> None:
    failure = Failure(message="plain-text")

    assert message_of(failure) == "plain-text"
    assert isinstance(dataclasses.replace(data_converter), DataConverter)
    assert issubclass(ActivityError, Exception)
