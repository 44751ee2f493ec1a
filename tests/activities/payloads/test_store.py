from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
import time
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1 import ExternalStorageReference
from temporalio.converter import DataConverter, JSONProtoPayloadConverter

from activities.contract.limits import STORED_FROM, STORED_LIMIT, Room
from activities.errors import PayloadLost, PayloadTooLarge, SettingInvalid, StoreMissing
from activities.housekeeping.pages import PagesCodec
from activities.payloads.encryption import new_key
from activities.payloads.files import Files
from activities.payloads.store import Store, days_from_environment, storage_from_environment, stores
from activities.values.converter import data_converter
from workflows.serving.client import converter_for

LARGE = "plain " * STORED_FROM
YEAR_S = 365 * 86_400.0


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a store."""
    monkeypatch.setenv("PAYLOAD_STORE", (tmp_path / "a store").as_uri())
    return tmp_path / "a store"


def converter() -> DataConverter:
    return converter_for(data_converter, PagesCodec())


def files_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def age(root: Path, seconds: float = YEAR_S) -> None:
    """Make all files older."""
    for path in files_in(root):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


async def test_what_is_large_is_in_a_file_and_a_reference_is_sent(root: Path) -> None:
    small, large = await converter().encode(["small", LARGE])

    assert b"small" in small.data
    assert len(large.SerializeToString()) < 500
    [file] = files_in(root)
    assert file.parent.name == file.name[:2]
    assert [path.stat().st_mode & 0o777 for path in (file, file.parent, root)] == [0o600, 0o700, 0o700]
    assert await converter().decode([small, large]) == ["small", LARGE]


async def test_a_file_holds_what_is_encrypted_and_the_same_is_stored_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYLOAD_KEY", new_key())
    sent = [await converter().encode([LARGE]), await converter().encode([LARGE])]

    [file] = files_in(root)
    assert b"plain " not in file.read_bytes()
    assert sent[0] == sent[1]
    assert await converter().decode(sent[0]) == [LARGE]
    monkeypatch.setenv("PAYLOAD_KEY", f"{new_key()},{os.environ['PAYLOAD_KEY']}")
    await converter().encode([LARGE])
    assert len(files_in(root)) == 2
    assert await converter().decode(sent[0]) == [LARGE]


async def test_without_a_store_what_is_stored_says_what_is_missing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = await converter().encode([LARGE])
    monkeypatch.delenv("PAYLOAD_STORE")
    with pytest.raises(StoreMissing, match=r"PAYLOAD_STORE is not set\. Set it to what the workers have"):
        await converter().decode(sent)
    assert not stores(converter().external_storage)
    assert LARGE.encode() in (await converter().encode([LARGE]))[0].data


async def test_a_file_that_is_missing_changed_or_cut_is_named(root: Path) -> None:
    sent = await converter().encode([LARGE])
    [file] = files_in(root)
    whole = file.read_bytes()
    for damaged in (whole[:-1], b"x" + whole[1:], b""):
        file.write_bytes(damaged)
        with pytest.raises(PayloadLost, match=f"{file} has .* another digest"):
            await converter().decode(sent)
    file.unlink()
    with pytest.raises(PayloadLost, match=f"{file}: the file is missing"):
        await converter().decode(sent)
    await converter().encode([LARGE])
    assert file.read_bytes() == whole


async def test_what_was_cut_is_written_anew(root: Path) -> None:
    await converter().encode([LARGE])
    [file] = files_in(root)
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])
    await converter().encode([LARGE])
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    "claim",
    [
        {"sha256": "../../../../etc/passwd"},
        {"sha256": "/etc/passwd"},
        {"sha256": "a" * 63},
        {"sha256": f"{'a' * 64}\n"},
        {"sha256": "A" * 64},
        {"path": "/etc/passwd"},
        {},
    ],
)
async def test_a_reference_names_nothing_but_a_digest(root: Path, claim: dict[str, str]) -> None:
    made = JSONProtoPayloadConverter().to_payload(
        ExternalStorageReference(driver_name="payload-store", claim_data=claim)
    )
    assert made is not None
    with pytest.raises(PayloadLost, match="names no digest"):
        await converter().decode([made])


async def test_more_than_the_store_takes_is_refused(root: Path) -> None:
    with pytest.raises(PayloadTooLarge, match="67,108,864 is the most that the store takes"):
        await Store(Files(root)).store(None, [Payload(data=bytes(STORED_LIMIT))])  # type: ignore[arg-type]
    assert files_in(root) == []


async def test_a_folder_that_can_not_be_written_to_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PAYLOAD_STORE", (tmp_path / "file" / "store").as_uri())
    with pytest.raises(StoreMissing, match=r"can't be written to: Not a directory\. Mend that, or set PAYLOAD_STORE"):
        await converter().encode([LARGE])


@pytest.mark.parametrize(
    "setting",
    ["/srv/payloads", "file://srv/payloads", "file:srv", "s3://", "s3://key:secret@bucket", "http://x/y", "[:"],
)
def test_a_setting_that_can_not_be_read_says_how_it_is_written(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYLOAD_STORE", setting)
    with pytest.raises(
        SettingInvalid, match="write file:///path/to/a/folder, with three slashes, or s3://bucket/prefix"
    ):
        storage_from_environment()


@pytest.mark.parametrize("setting", ["-1", "a week", "nan", "1e9"])
def test_days_are_a_number(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYLOAD_STORE_DAYS", setting)
    with pytest.raises(SettingInvalid, match="give a number of days"):
        days_from_environment()


# Deleting what is not used


async def test_what_is_not_used_is_deleted_and_what_is_read_or_sent_is_not(root: Path) -> None:
    read, sent, _ = [await converter().encode([LARGE + kind]) for kind in ("read", "sent", "neither")]
    age(root)
    await converter().decode(read)
    await converter().encode([LARGE + "sent"])

    assert Files(root).remove_unused(time.time() - 60) == 1
    assert await converter().decode([*read, *sent]) == [LARGE + "read", LARGE + "sent"]
    assert Files(root).remove_unused(time.time() - 60) == 0


async def test_what_processes_left_behind_that_were_killed_is_taken_up(root: Path) -> None:
    sent = await converter().encode([LARGE])
    [file] = files_in(root)
    file.rename(file.with_suffix(".going"))  # by one that was about to delete it; it was used meanwhile
    (file.parent / "abc.unfinished").write_bytes(b"half")
    Files(root).remove_unused(time.time() - 60)
    assert await converter().decode(sent) == [LARGE]
    assert len(files_in(root)) == 2

    age(root)
    file.rename(file.with_suffix(".going"))
    assert Files(root).remove_unused(time.time() - 60) == 1
    assert files_in(root) == []


async def test_nothing_is_lost_that_is_sent_while_several_delete(root: Path) -> None:
    place, data = Files(root), b"x" * 100
    for number in range(100):
        digest = f"{number:064x}"
        place.put(digest, data)
        age(root)
        deleting = [threading.Thread(target=place.remove_unused, args=(time.time() - 60,)) for _ in range(3)]
        sending = threading.Thread(target=place.put, args=(digest, data))
        for thread in (*deleting, sending):
            thread.start()
        for thread in (*deleting, sending):
            thread.join()
        assert place.get(digest) == data
    assert [path for path in files_in(root) if path.suffix] == []


# Time


async def test_twenty_megabytes_hold_the_event_loop_only_for_moments(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYLOAD_KEY", new_key())
    held: list[float] = []

    async def feel_the_pulse() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            held.append(time.thread_time() - before)

    encoding = dataclasses.replace(converter())
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b'"%s"' % (b"plain text " * 2_000_000))
    pulse = asyncio.create_task(feel_the_pulse())
    sealed = await encoding._encode_payload_sequence([payload])
    await encoding._external_store_payload_sequence(sealed)
    pulse.cancel()
    assert max(held) < 0.05  # of this thread's own work: what others on the machine do is not counted


def test_room_says_what_to_do() -> None:
    assert Room().refusal("it is 9", "Cut it.") == (
        "it is 9; 2,031,616 is the most that the server takes. Cut it. Or set PAYLOAD_STORE for all processes: then "
        "67,043,328 is the most."
    )
    assert Room(stores=True).refusal("it is 9", "Cut it.") == (
        "it is 9; 67,043,328 is the most that the store takes. Cut it."
    )
