"""Texts without the secrets of the process, and with everything else."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import pytest

from activities import secret
from activities.border.context import CallContext
from activities.border.secrets import json_without_secrets, without_secrets
from activities.errors import SettingInvalid

VALUE = "marked-7f3c-value"
RANDOM = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
PRIVATE_KEY = f"-----BEGIN PRIVATE KEY-----\n{RANDOM * 2}\n{RANDOM}==\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "GITHUB_TOKEN",
        "CLIENT_SECRET",
        "DB_PASSWORD",
        "PASSWORD_OF_THE_DATABASE",
        "MYSQL_PASSWD",
        "my_key",
        "API_KEYS",
    ],
)
def test_the_value_of_a_variable_that_is_named_like_a_secret_is_replaced_by_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, VALUE)

    assert without_secrets(f"no {VALUE}, and {VALUE}!") == f"no [secret {name}], and [secret {name}]!"


@pytest.mark.parametrize("name", ["MODEL", "KEYBOARD", "HOME", "TOKENIZER", "MONKEY"])
def test_the_value_of_any_other_variable_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, VALUE)

    assert without_secrets(VALUE) == VALUE


@pytest.mark.parametrize("value", ["short-7", "", "password", "changeme"])
def test_a_value_that_honest_texts_hold_stays(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", value)
    text = f"said {value} here"

    assert without_secrets(text) == text


def test_a_path_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_KEY", str(tmp_path))

    assert without_secrets(f"see {tmp_path}") == f"see {tmp_path}"


@pytest.mark.parametrize(
    "value", ["/9j/" + "4AAQSkZJ" * 200, "~nobody-of-that-name/x", "~/" + "x" * 5_000, "half \udc80 a byte"]
)
def test_no_value_of_a_variable_is_too_odd(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", value)

    assert without_secrets(f"said {value} here") == "said [secret A_KEY] here"
    assert json_without_secrets(json.dumps([value])) == '["[secret A_KEY]"]'


def test_a_variable_that_only_is_called_like_a_secret_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORT_KEY", "created_at")
    monkeypatch.setenv("NOT_SECRET", "ROUTING_KEY, SORT_KEY")

    assert without_secrets("order by created_at") == "order by created_at"


def test_a_secret_that_changes_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", VALUE)
    assert without_secrets(VALUE) == "[secret A_KEY]"

    monkeypatch.setenv("A_KEY", "another-value")
    assert without_secrets("another-value") == "[secret A_KEY]"
    monkeypatch.delenv("A_KEY")
    assert without_secrets("another-value") == "another-value"


def test_of_two_secrets_the_longer_one_is_looked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", VALUE)
    monkeypatch.setenv("B_KEY", f"{VALUE}-and-more")

    assert without_secrets(f"{VALUE}-and-more, {VALUE}") == "[secret B_KEY], [secret A_KEY]"


def test_each_of_several_keys_in_one_variable_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYLOAD_KEY", "id2:secondvalue,id1:firstvalue")

    assert (
        without_secrets("id2: secondvalue, id1: firstvalue") == "id2: [secret PAYLOAD_KEY], id1: [secret PAYLOAD_KEY]"
    )


def test_the_password_in_an_address_is_a_secret_and_the_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://team:pass%2Fword-9@db.example.com/orders")

    assert without_secrets("could not log in with pass/word-9 at db.example.com/orders") == (
        "could not log in with [secret DATABASE_URL] at db.example.com/orders"
    )


@pytest.mark.parametrize("value", ['quo"ted\\value', "zeile-eins\nzeile-zwei", "schlüssel-wört", "a/b+c d=e&f"])
def test_a_secret_is_found_however_it_is_written(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.parse import quote, quote_plus

    monkeypatch.setenv("A_KEY", value)

    for written in (
        value,
        quote(value, safe=""),
        quote_plus(value),
        json.dumps(value),
        json.dumps([json.dumps(value)]),
    ):
        assert without_secrets(f"x{written}y") != f"x{written}y"
    for dumped in (json.dumps({"a": [value, 1.50]}), json.dumps({value: value}, ensure_ascii=False)):
        read = json.loads(json_without_secrets(dumped))
        assert read in ({"a": ["[secret A_KEY]", 1.5]}, {"[secret A_KEY]": "[secret A_KEY]"})


def test_what_is_no_text_in_json_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PASSWORD", "12345678")
    monkeypatch.setenv("B_PASSWORD", "nothing-here")

    assert json_without_secrets('{"a": 12345678, "b": "12345678", "c": "\\nothing-here"}') == (
        '{"a": 12345678, "b": "[secret A_PASSWORD]", "c": "\\nothing-here"}'
    )


@pytest.mark.parametrize(
    "key",
    [
        f"sk-{RANDOM}",
        "sk-ant-api03-abcdefghijklmnopqrst",
        f"sk-proj-{RANDOM}_-{RANDOM}",
        "AKIAABCDEFGHIJKLMNOP",
        f"ghp_{RANDOM}",
        f"github_pat_{RANDOM}_{RANDOM}",
        f"glpat-{RANDOM}",
        f"xoxb-1234567890-{RANDOM}",
        f"AIza{RANDOM[:35]}",
        f"gsk_{RANDOM}",
        f"hf_{RANDOM}",
        f"eyJ{RANDOM}.eyJ{RANDOM}.{RANDOM}",
        PRIVATE_KEY,
        PRIVATE_KEY.replace("PRIVATE", "RSA PRIVATE"),
        PRIVATE_KEY.replace("\n", "\\n"),
    ],
)
def test_what_has_the_shape_of_a_key_is_replaced_whoever_it_belongs_to(key: str) -> None:
    assert without_secrets(f"key={key}, and more") == "key=[secret], and more"
    assert json.loads(json_without_secrets(json.dumps({"key": key, "n": 1}))) == {"key": "[secret]", "n": 1}


@pytest.mark.parametrize("before", ["Authorization: Bearer ", "{'authorization': 'bearer "])
def test_what_a_header_bears_is_replaced(before: str) -> None:
    assert without_secrets(f"{before}{RANDOM}'") == f"{before}[secret]'"


@pytest.mark.parametrize(
    "text",
    [
        "task-list-of-the-1st-quarter-2026",
        "class='sk-circle-fade-dot-of-the-spinner'",
        "a bearer of bad news, Bearer authentication-with-tokens",
        "AKIAIOSFODNN7EXAMPLE is the key of AWS's own examples",
        "if text.startswith('-----BEGIN PRIVATE KEY-----'): raise ValueError('a private key')",
        "sk-…, ghp_…, eyJ… and xoxb-… are how keys begin",
        "hf_hub_download_of_a_model_with_a_name",
        "1f0c3e5a7b9d2c4e6f8a0b1c2d3e4f5a6b7c8d9e is a commit",
        "550e8400-e29b-41d4-a716-446655440000",
    ],
)
def test_what_only_looks_a_little_like_a_key_stays(text: str) -> None:
    assert without_secrets(text) == text
    assert json_without_secrets(json.dumps(text)) == json.dumps(text)


@pytest.mark.parametrize(
    "text",
    [
        "sk-" * 300_000,
        "eyJ" * 300_000,
        "eyJaaaaaaaa." * 80_000,
        "-----BEGIN PRIVATE KEY-----" * 40_000,
        ("-----BEGIN PRIVATE KEY-----\n" + "A: b" * 500) * 500,
        ("-----BEGIN PRIVATE KEY-----" + "\\" * 2_000) * 500,
        ("-----BEGIN PRIVATE KEY-----" + "\n" * 2_000) * 500,
        "earer " * 150_000,
        "Bearer" + " " * 1_000_000,
        '"' * 1_000_000,
        '"\\"' * 300_000,
        "xoxb." * 200_000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()

    without_secrets(text)
    json_without_secrets(text)

    assert time.process_time() - began < 2  # a tenth of that on an idle machine; hours, were it a square


def test_a_secret_is_read_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    value = "paid-with-this-1"  # it is known from then on
    monkeypatch.setenv("STRIPE", value)
    call = CallContext("build", "run", "coder-1", "Coder.pay", "1")

    assert without_secrets(value) == value, "its name does not tell that it is one"
    assert call.secret("STRIPE") == secret("STRIPE") == value
    assert without_secrets(f"paid with {value}") == "paid with [secret STRIPE]"


def test_a_secret_is_read_from_the_file_that_a_variable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounted").write_text("mounted-4711\n")
    monkeypatch.setenv("MOUNTED_FILE", str(tmp_path / "mounted"))

    assert secret("MOUNTED") == "mounted-4711"
    assert without_secrets("mounted-4711") == "[secret MOUNTED]"


@pytest.mark.parametrize("name", ["NOWHERE_KEY", "EMPTY_KEY", "GONE_KEY"])
def test_a_secret_that_is_not_there_is_said_with_the_mend(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY_KEY", " ")
    monkeypatch.setenv("GONE_KEY_FILE", str(tmp_path / "gone"))

    with pytest.raises(SettingInvalid, match=rf"The secret {name} .*{name}(_FILE)?") as raised:
        secret(name)
    assert ("No such file" in str(raised.value)) == (name == "GONE_KEY")


def test_a_secret_in_a_long_text_full_of_escapes_takes_hardly_any_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "rain-or-shine-7")
    text = json.dumps("a\n" * 1_000_000 + "rain-or-shine-7")
    tracemalloc.start()
    assert json_without_secrets(text) == json.dumps("a\n" * 1_000_000 + "[secret MY_TOKEN]")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40_000_000
