"""The scripted model: how a script is read and how it chooses, and what examples/textkit.toml builds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from activities.errors import ScriptExhausted, SettingInvalid
from activities.models import model
from activities.models.hearing import Delta, listening
from activities.models.scripted import Reply, Script, prompt_tokens

TEXTKIT = Path(__file__).parents[3] / "examples" / "textkit.toml"

SCRIPT = """
delay = 0.5
price.input_per_million = 0.15

[[entry]]
when = ["Review", "pad.py"]
unless = "in a hurry"

[[entry.turns]]
text = "Let me see."
call = [{ tool = "read_file", arguments = { path = "pad.py" } }, { tool = "run_tests" }]

[[entry.turns]]
delay = 2
    [[entry.turns.choose]]
    if = ["FAILED", "test_pad"]
    delay = 3
    answer = { verdict = "NEEDS_FIXES" }
    [[entry.turns.choose]]
    if = "PASSED"
    answer = { verdict = "PASS" }

[[entry.turns]]
answer = "Once more, then: PASS"

[[entry]]
when = "Review"
turns = [{ answer = ["läuft"] }]
"""

REQUEST = "Review the module pad.py"


def load(folder: Path, text: str) -> Script:
    path = folder / "script.toml"
    path.write_text(text, encoding="utf-8")
    return Script.load(path)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return load(tmp_path, SCRIPT)


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def tool(content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "1", "content": content}


def test_the_first_entry_that_fits_answers(script: Script) -> None:
    assert [call.name for call in script.reply([user(REQUEST)]).tool_calls] == ["read_file", "run_tests"]
    assert script.reply([user("Review wrap.py")]).content == '["läuft"]'


def test_unless_keeps_an_entry_from_fitting(script: Script) -> None:
    assert script.reply([user(f"{REQUEST}, I'm in a hurry")]).content == '["läuft"]'


def test_only_user_messages_are_requests(script: Script) -> None:
    messages = [{"role": "system", "content": "Review wrap.py"}, user(REQUEST)]
    assert script.reply(messages).content == "Let me see."


def test_a_request_may_come_in_parts(script: Script) -> None:
    parts = [{"type": "text", "text": "Review"}, {"type": "text", "text": "pad.py"}]
    assert script.reply([{"role": "user", "content": parts}]).content == "Let me see."


def test_a_call_starts_at_the_last_message_that_fits(script: Script) -> None:
    earlier = [user(REQUEST), assistant(), tool("FAILED test_pad"), assistant("{}")]
    assert script.reply([*earlier, user(REQUEST)]).content == "Let me see."


def test_a_user_message_that_fits_nothing_goes_on_with_the_call(script: Script) -> None:
    messages = [user(REQUEST), assistant(), tool("PASSED"), assistant("{}"), user("That does not validate.")]
    assert script.reply(messages).content == "Once more, then: PASS"


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (["def pad(): ...", "FAILED test_pad"], "NEEDS_FIXES"),
        (["FAILED", "test_pad"], "NEEDS_FIXES"),
        (["def pad(): ...", "PASSED"], "PASS"),
    ],
)
def test_the_last_tool_results_choose(script: Script, results: list[str], verdict: str) -> None:
    reply = script.reply([user(REQUEST), assistant(), *map(tool, results)])
    assert json.loads(reply.content or "") == {"verdict": verdict}


def test_the_nearest_delay_counts(script: Script) -> None:
    messages = [user(REQUEST), assistant()]
    assert script.reply(messages[:1]).delay == 0.5
    assert script.reply([*messages, tool("PASSED")]).delay == 2
    assert script.reply([*messages, tool("FAILED test_pad")]).delay == 3


def test_a_turn_asked_again_gets_the_same_reply(script: Script, tmp_path: Path) -> None:
    elsewhere = load(tmp_path, SCRIPT)
    first = script.reply([user(REQUEST)])
    first.tool_calls[0].arguments["path"] = "changed by the caller"
    script.reply([user("Review wrap.py")])
    assert script.reply([user(REQUEST)]) == elsewhere.reply([user(REQUEST)])


def test_tokens_are_a_quarter_of_the_characters(script: Script) -> None:
    assert prompt_tokens([user("a" * 8), assistant("b"), assistant()]) == 3
    assert prompt_tokens([]) == 0
    assert prompt_tokens([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]) == 4
    assert Reply("a" * 9).tokens == 3
    assert script.reply([user(REQUEST)]).tokens > Reply("Let me see.").tokens


def test_a_price_is_optional(script: Script) -> None:
    assert (script.price.input_per_million, script.price.output_per_million) == (0.15, 0.0)


def test_a_request_without_an_entry_says_what_to_add(script: Script, tmp_path: Path) -> None:
    with pytest.raises(ScriptExhausted) as caught:
        script.reply([user("Plan\n the modules " + "x" * 300)])
    request = "Plan the modules " + "x" * 183
    assert str(caught.value) == (
        f'Script {tmp_path}/script.toml: turn 1 of the request "{request}…" has no answer: no entry fits. '
        "Add an [[entry]] whose 'when' occurs in the request."
    )


def test_a_conversation_without_a_request_says_so(script: Script) -> None:
    with pytest.raises(ScriptExhausted, match="request without a user message"):
        script.reply([])


def test_a_turn_too_many_says_what_to_add(script: Script, tmp_path: Path) -> None:
    with pytest.raises(ScriptExhausted) as caught:
        script.reply([user("Review it"), assistant("[]"), user("That does not validate.")])
    assert str(caught.value) == (
        f'Script {tmp_path}/script.toml: turn 2 of the request "Review it" has no answer: its entry, '
        "when = ['Review'], ends after 1 turns. "
        'The last message was "That does not validate.". Add an [[entry.turns]] for it.'
    )


def test_results_that_no_alternative_fits_are_shown(script: Script) -> None:
    with pytest.raises(ScriptExhausted, match=r'turn 2 .* to the tool results "no such file"\. Add .*choose'):
        script.reply([user(REQUEST), assistant(), tool("no such file")])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[entry]\n", "is not valid TOML: .*line 1"),
        ("", "entry: Field required"),
        ("retries = 3\n" + SCRIPT, "used: unknown key retries; known here are delay, price, entry"),
        (SCRIPT.replace("price.input", "price.in"), "price: unknown key in_per_million"),
        (SCRIPT + "\nwen = 'Plan'", "entry 2: unknown key wen; known here are when, unless, turns"),
        (SCRIPT.replace("answer = [", "anwser = ["), "entry 2, turns 1: unknown key anwser"),
        (
            SCRIPT.replace("answer = [", "delay = 1 } , { answer = ["),
            "entry 2, turns 1: write exactly one of 'answer', 'call'",
        ),
        (
            SCRIPT.replace("answer = [", "text = '', answer = ["),
            "entry 2, turns 1: 'text' stands beside 'call'",
        ),
        (
            SCRIPT.replace("if = 'FAILED'", "").replace('if = ["FAILED", "test_pad"]', ""),
            "only the last 'choose'",
        ),
        (
            SCRIPT.replace('tool = "run_tests"', "name = 'x'"),
            "entry 1, turns 1, call 2: unknown key name; .* tool,",
        ),
        (
            SCRIPT.replace('when = "Review"', 'when = ""'),
            "entry 2, when 1: String should have at least 1 character",
        ),
        (SCRIPT.replace("delay = 2", "delay = -2"), "entry 1, turns 2, delay: Input should be greater"),
        (SCRIPT.replace("answer = [", "call = [], delay = ["), "entry 2, turns 1, call: .* at least 1"),
    ],
)
def test_a_bad_file_names_the_place_and_the_mend(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingInvalid, match=re.escape(f"Script {tmp_path}/script.toml ") + f".*{problem}"):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match=r"none\.toml can't be read: No such file.* scripted/<path of its file>"):
        Script.load(tmp_path / "none.toml")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "script.toml").write_bytes(b"\xff")
    with pytest.raises(SettingInvalid, match=r"script\.toml is not valid TOML: 'utf-8' codec"):
        Script.load(tmp_path / "script.toml")


class Library:
    """A workspace with the tools of build_project, and the agents that the script plays in it."""

    def __init__(self, folder: Path) -> None:
        self.script = Script.load(TEXTKIT)
        self.folder = folder
        self.used: list[str] = []

    def plan(self) -> dict[str, Any]:
        return self.ask("Plan the modules of this library:\n\nHelpers for plain text.")

    def implement(self, module: Mapping[str, str], feedback: str = "none") -> dict[str, Any]:
        return self.ask(
            f"Implement this module and its tests: {json.dumps(module, indent=2)}\n\n"
            f"Feedback from the last review, if any: {feedback}"
        )

    def review(self, module: Mapping[str, str]) -> dict[str, Any]:
        return self.ask(f"Review the module {module['module_path']} with its tests {module['test_path']}")

    def ask(self, request: str) -> dict[str, Any]:
        self.used = []
        messages = [{"role": "system", "content": "You are an expert."}, user(request)]
        while (reply := self.script.reply(messages)).tool_calls:
            messages.append(assistant(reply.content))
            for call in reply.tool_calls:
                self.used.append(call.name)
                messages.append(tool(getattr(self, call.name)(**call.arguments)))
        answer = json.loads(reply.content or "")
        assert isinstance(answer, dict)
        return answer

    def write_file(self, path: str, content: str) -> str:
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(content, encoding="utf-8")
        return f"Wrote {path}"

    def read_file(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def edit_file(self, path: str, old: str, new: str) -> str:
        content = self.read_file(path)
        assert content.count(old) == 1
        return self.write_file(path, content.replace(old, new))

    def run_tests(self, paths: list[str]) -> str:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "--rootdir=.",
                "-c",
                os.devnull,
                *paths,
            ],
            cwd=self.folder,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        return f"{'FAILED' if done.returncode else 'PASSED'}\n{done.stdout}{done.stderr}"


def test_textkit_builds_a_library_whose_tests_pass(tmp_path: Path) -> None:
    library = Library(tmp_path)
    plan = library.plan()
    modules = {module["name"]: module for module in plan["modules"]}
    assert plan["package"] == "textkit"
    assert list(modules) == ["slugify", "wrap", "redact"]
    assert {tuple(module) for module in plan["modules"]} == {("name", "module_path", "test_path", "purpose", "api")}

    for name, module in modules.items():
        implementation = library.implement(module)
        assert list(implementation) == ["module_path", "test_path", "summary"]
        assert implementation.items() & module.items() >= {("module_path", f"textkit/{name}.py")}
        careful = [] if name == "wrap" else ["run_tests"]
        assert library.used == ["write_file", "write_file", *careful]

    reviews = {name: library.review(module) for name, module in modules.items()}
    assert {name: review["verdict"] for name, review in reviews.items()} == {
        "slugify": "PASS",
        "wrap": "NEEDS_FIXES",
        "redact": "PASS",
    }
    assert library.used == ["read_file", "run_tests"]

    library.implement(modules["wrap"], feedback=reviews["wrap"]["feedback"])
    assert library.used == ["read_file", "edit_file", "run_tests"]

    for module in modules.values():
        review = library.review(module)
        assert list(review) == ["module_path", "verdict", "feedback"]
        assert (review["module_path"], review["verdict"]) == (module["module_path"], "PASS")
        assert library.read_file(module["test_path"]).count("\ndef test_") >= 3


def test_textkit_reviews_what_the_tests_say(tmp_path: Path) -> None:
    library = Library(tmp_path)
    module = library.plan()["modules"][0]
    library.implement(module)
    library.write_file(module["module_path"], "def slugify(text): return text\n")
    assert library.review(module)["verdict"] == "NEEDS_FIXES"


async def test_the_scripted_model_speaks_while_it_takes_its_time(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text(
        'delay = 0.3\n[[entry]]\nwhen = "hello"\n'
        '[[entry.turns]]\nanswer = "It rained all day, and then it rained all night."\n'
    )
    heard: list[Delta] = []
    request = model.ModelRequest(f"scripted/{path}", [{"role": "user", "content": "hello"}])

    with listening(heard.append):
        answer = await model.complete(request)

    assert "".join(delta.text for delta in heard) == answer.message["content"]
    assert len(heard) == 5
    assert answer.first_token_s is not None
