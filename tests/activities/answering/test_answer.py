"""The turn loop, with a real litellm and a provider on loopback: tools, answers, re-asks, limits and going on."""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ValidationInfo, field_validator, model_validator

from activities import Agent, prompt, task, tool
from activities.answering.answer import TurnLoop
from activities.answering.checkpoint import Checkpoint
from activities.answering.record import accounting_to
from activities.answering.toolbox import RESULT_LIMIT
from activities.border.context import CallContext, answering
from activities.declarations.method import Method
from activities.errors import AnswerInvalid, ModelUnavailable, SettingInvalid, TurnLimit
from activities.memory.port import Nothing
from tests.provider import JSON, Fault, Garbage, Provider, Reply, Text, ToolCall, Tools


class Verdict(BaseModel):
    verdict: Literal["PASS", "NEEDS_FIXES"]
    feedback: str = ""

    @model_validator(mode="after")
    def _says_why(self) -> "Verdict":
        if self.verdict == "NEEDS_FIXES" and not self.feedback:
            raise ValueError("say what has to be fixed")
        return self


class Word(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def _breaks(cls, text: str, info: ValidationInfo) -> str:
        if text == "broken":
            raise LookupError("no dictionary")
        return text


class Critic(Agent):
    """You are a critic."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ran: list[str] = []
        self.keys: list[str] = []

    @tool
    def read(self, path: str) -> str:
        """Read a poem."""
        self.ran.append(f"read {path}")
        if self.call:
            self.keys.append(self.call.idempotency_key)
        return f"text of {path}"

    @tool
    async def count(self, words: list[str], word: Word | None = None) -> int:
        """Count words."""
        self.ran.append("count")
        return len(words)

    @tool
    def fail(self, how: str) -> Any:
        """Fail in one of many ways."""
        self.ran.append("fail")
        if how == "raise":
            raise LookupError("no such poem")
        if how == "exit":
            sys.exit("usage: poem")
        if how == "time out":
            raise TimeoutError("the library does not answer")
        if how == "loop":
            loop: list[Any] = []
            loop.append(loop)
            return loop
        return b"\xff"

    @tool
    async def cancel(self) -> None:
        """Wait for something that was cancelled."""
        raise asyncio.CancelledError

    @tool(timeout=0.02)
    async def hang(self) -> None:
        """Take for ever."""
        await asyncio.Event().wait()

    @tool
    def shelve(self) -> None:
        """Put a poem back."""

    @tool
    def copy_out(self, times: int) -> str:
        """Write a poem many times."""
        return "poem " * times

    @tool
    async def read_twice(self, path: str) -> str:
        """Read a poem twice."""
        return f"{await self.read(path)}, {await self.read(path)}"

    @tool
    async def read_briefly(self, path: str) -> str:
        """Read the summary of a poem."""
        return await self.summarise(await self.read(path))

    @tool
    @prompt
    async def summarise(self, text: str) -> str:
        """Summarise: {text}"""

    @prompt
    async def describe(self, poem: str) -> str:
        """Describe this poem: {poem}"""

    @prompt
    async def judge(self, poem: str) -> Verdict:
        """Judge this poem: {poem}"""

    @prompt(require=("read", "count"))
    async def check(self, path: str) -> Verdict:
        """Check the poem {path}."""

    @prompt
    async def inspect(self, path: str) -> Verdict:
        """Inspect the poem {path}."""

    @prompt(reasks=1, turns=4)
    async def rate(self, poem: str) -> list[int]:
        """Rate every line of this poem: {poem}"""

    @prompt
    async def tidy(self) -> None:
        """Tidy up."""

    @prompt(model="openai/own")
    async def own_model(self) -> str:
        """Say which model you are."""

    @task
    async def describe_both(self, first: str, second: str) -> str:
        """Describe two poems."""
        return f"{await self.describe(first)} and {await self.describe(second)}"


PASS = Text('{"verdict": "PASS"}')


def call(name: str, /, **arguments: Any) -> Tools:
    return Tools((ToolCall(name, arguments),))


def finally_answer(**arguments: Any) -> ToolCall:
    return ToolCall("final_answer", arguments)


def tool_results(provider: Provider, request: int = -1) -> list[str]:
    """Return what the model was told of the tools that it called, as a request shows it."""
    return [message["content"] for message in provider.requests[request].messages if message["role"] == "tool"]


def roles(messages: list[JSON]) -> list[str]:
    return [message["role"] for message in messages]


def assert_that_every_tool_call_has_its_result(messages: list[JSON]) -> None:
    open_calls: set[str] = set()
    seen: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
            continue
        assert not open_calls
        open_calls = {made["id"] for made in message.get("tool_calls") or []}
        assert len(open_calls) == len(message.get("tool_calls") or [])
        assert not open_calls & seen
        seen |= open_calls
    assert not open_calls


async def answer(method: Method[..., Any], checkpoint: Checkpoint, **arguments: Any) -> Any:
    return await TurnLoop(Critic(), method, arguments, checkpoint, Nothing()).run()


# Asking


async def test_a_text_answer_comes_back_as_it_is(provider: Provider) -> None:
    provider.enqueue(Text(" It rhymes.\n"))

    assert await Critic().describe("Roses") == " It rhymes.\n"


async def test_the_model_is_asked_with_system_prompt_user_prompt_and_tools(provider: Provider) -> None:
    provider.enqueue(Text("fine"))

    await Critic().describe("Roses")

    request = provider.requests[0]
    assert request.messages == [
        {"role": "system", "content": "You are a critic."},
        {"role": "user", "content": "Describe this poem: Roses"},
    ]
    assert {"read", "count", "summarise"} <= set(request.tools)
    assert not {"describe", "judge", "describe_both"} & set(request.tools)
    assert request.response_format == {}


async def test_a_typed_answer_and_tools_go_together(provider: Provider) -> None:
    provider.enqueue(call("read", path="a"), PASS)

    verdict = await Critic().judge("Roses")

    assert verdict == Verdict(verdict="PASS")
    assert all(request.response_format["type"] == "json_schema" and request.tools for request in provider.requests)


async def test_what_an_agent_sets_goes_into_the_request(provider: Provider) -> None:
    class Settled(Critic):
        temperature = 0.5
        max_tokens = 77
        parameters = {"seed": 7}  # noqa: RUF012

    provider.enqueue(Text("fine"))

    await Settled().describe("Roses")

    body = provider.requests[0].body
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (0.5, 77, 7)


async def test_an_agents_address_is_the_one_that_is_asked(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(Critic):
        api_base = provider.url

    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:1/v1")
    provider.enqueue(Text("fine"))

    assert await Local().describe("Roses") == "fine"


class Fixed(Critic):
    model = "openai/of-the-class"


@pytest.mark.parametrize(
    ("agent", "method", "expected"),
    [
        (lambda: Critic(), "describe", "any"),
        (lambda: Fixed(), "describe", "of-the-class"),
        (lambda: Fixed(), "own_model", "own"),
        (lambda: Fixed(model="openai/of-the-run"), "own_model", "of-the-run"),
    ],
    ids=["environment", "class", "prompt", "instance"],
)
async def test_the_nearest_choice_of_a_model_counts(
    provider: Provider, agent: Callable[[], Agent], method: str, expected: str
) -> None:
    provider.enqueue(Text("fine"))

    await getattr(agent(), method)(**({"poem": "Roses"} if method == "describe" else {}))

    assert provider.requests[0].model == expected


async def test_without_any_model_the_error_says_how_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODEL", raising=False)

    with pytest.raises(SettingInvalid, match=r"^No model is set\. Start the worker with MODEL=openai/"):
        await Critic().describe("Roses")


# Tools


async def test_parallel_tool_calls_are_all_answered_in_order(provider: Provider) -> None:
    calls = (ToolCall("read", {"path": "a"}, "1"), ToolCall("count", {"words": ["x"]}, "2"))
    provider.enqueue(Tools((*calls, ToolCall("read", {"path": "b"}, "3"))), Text("fine"))

    await Critic().describe("Roses")

    assert provider.requests[1].messages[-3:] == [
        {"role": "tool", "tool_call_id": "1", "content": "text of a"},
        {"role": "tool", "tool_call_id": "2", "content": "1"},
        {"role": "tool", "tool_call_id": "3", "content": "text of b"},
    ]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (ToolCall("fly", {}), r"Error: there is no tool 'fly'\. The tools are: .*read, count"),
        (ToolCall("describe", {"poem": "x"}), r"Error: there is no tool 'describe'"),
        (ToolCall("read", '{"path": '), r"Error: the arguments of read do not fit: Invalid JSON: EOF"),
        (ToolCall("read", "[]"), r"Error: the arguments of read do not fit: Input should be an object"),
        (ToolCall("read", ""), r"Error: the arguments of read do not fit: 'path': Field required"),
        (ToolCall("read", {"path": 1}), r"Error: the arguments of read do not fit: 'path': Input should be a valid st"),
        (
            ToolCall("read", {"path": "a", "b": 1}),
            r"Error: the arguments of read do not fit: 'b': Extra inputs are not",
        ),
        (
            ToolCall("count", {"words": [], "word": {"text": "broken"}}),
            r"Error: the arguments of count .* no dictionary",
        ),
        (ToolCall("fail", {"how": "raise"}), r"Error: fail failed: LookupError: no such poem"),
        (ToolCall("fail", {"how": "exit"}), r"Error: fail failed: SystemExit: usage: poem"),
        (ToolCall("fail", {"how": "time out"}), r"Error: fail failed: TimeoutError: the library does not answer"),
        (ToolCall("fail", {"how": "bytes"}), r"Error: fail failed: .*invalid utf-8"),
        (ToolCall("fail", {"how": "loop"}), r"Error: fail failed: .*[Cc]ircular"),
        (ToolCall("cancel", {}), r"Error: cancel failed: CancelledError"),
        (ToolCall("hang", {}), r"Error: hang took longer than 0\.02 seconds and was given up\."),
    ],
    ids=[
        "unknown tool",
        "a method that is no tool",
        "malformed JSON",
        "no object",
        "no arguments",
        "wrong type",
        "unknown argument",
        "a validator that breaks",
        "raises",
        "exits",
        "a timeout of its own",
        "a result that is no text",
        "a result that is no data",
        "is cancelled",
        "takes too long",
    ],
)
async def test_what_goes_wrong_with_a_tool_is_told_to_the_model(provider: Provider, made: ToolCall, told: str) -> None:
    provider.enqueue(Tools((made, ToolCall("read", {"path": "a"}))), PASS)

    assert await Critic().judge("Roses") == Verdict(verdict="PASS")

    wrong, right = tool_results(provider)
    assert re.match(told, wrong), wrong
    assert right == "text of a"


async def test_cancelling_the_call_ends_a_tool_and_the_call(provider: Provider) -> None:
    class Waiting(Agent):
        @tool
        async def wait(self) -> None:
            """Wait."""
            started.set()
            await asyncio.Event().wait()

        @prompt
        async def ask(self) -> str:
            """Ask."""

    started = asyncio.Event()
    provider.enqueue(call("wait"))
    asking = asyncio.ensure_future(Waiting().ask())
    await asyncio.wait_for(started.wait(), 60)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_tool_without_arguments_may_be_called_with_an_empty_text(provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("shelve", ""),)), Text("fine"))

    await Critic().describe("Roses")

    assert tool_results(provider) == ["done"]


async def test_a_long_tool_result_is_cut_and_says_so(provider: Provider) -> None:
    provider.enqueue(call("copy_out", times=RESULT_LIMIT), Text("fine"))

    await Critic().describe("Roses")

    [result] = tool_results(provider)
    assert len(result) <= RESULT_LIMIT + 100
    assert "characters left out" in result


async def test_a_tool_may_call_other_methods_of_its_agent(provider: Provider) -> None:
    provider.enqueue(call("read_twice", path="a"), Text("fine"))
    critic = Critic()

    await critic.describe("Roses")

    assert tool_results(provider) == ["text of a, text of a"]
    assert critic.ran == ["read a", "read a"]


async def test_every_tool_call_of_a_run_has_its_own_idempotency_key(provider: Provider) -> None:
    reads = Tools((ToolCall("read", {"path": "a"}), ToolCall("read", {"path": "b"})))
    provider.enqueue(reads, call("read", path="c"), Text("fine"))
    critic = Critic()

    with answering(CallContext("poems", "run", "critic-2", "Critic.describe", "7")):
        await critic.describe("Roses")

    assert critic.keys == ["run/7/1/0", "run/7/1/1", "run/7/2/0"]


@pytest.mark.parametrize("id", ["", None], ids=["empty", "null"])
async def test_tool_calls_without_an_id_get_one(provider: Provider, id: str | None) -> None:
    made = [
        {"id": id, "type": "function", "function": {"name": "read", "arguments": json.dumps({"path": path})}}
        for path in ("a", "b")
    ]
    provider.enqueue(Garbage(completion({"content": None, "tool_calls": made})), Text("fine"))
    critic = Critic()

    await critic.describe("Roses")

    assert critic.ran == ["read a", "read b"]
    assert_that_every_tool_call_has_its_result(provider.requests[1].messages)


def completion(message: JSON) -> str:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    return json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "any", "choices": [choice]})


async def test_ids_that_come_again_in_one_turn_and_in_every_turn_are_told_apart(provider: Provider) -> None:
    same = Tools((ToolCall("read", {"path": "a"}, "0"), ToolCall("read", {"path": "b"}, "0")))
    provider.enqueue(same, same, Text("fine"), same, Text("fine"))
    critic = Critic()

    await critic.describe("Roses")
    await critic.describe("Violets")

    assert critic.ran == ["read a", "read b"] * 3
    assert_that_every_tool_call_has_its_result(provider.requests[-1].messages)


# Prompts inside prompts


async def test_a_prompt_that_is_offered_as_a_tool_is_answered_inside_the_call(provider: Provider) -> None:
    provider.on("Judge", call("summarise", text="Roses are red"), PASS)
    provider.on("Summarise: Roses are red", Text("Flowers."))

    assert await Critic().judge("Roses") == Verdict(verdict="PASS")

    assert tool_results(provider) == ["Flowers."]


async def test_a_prompt_inside_another_starts_afresh_and_is_not_remembered(provider: Provider) -> None:
    provider.on("Judge", call("summarise", text="Roses are red"), PASS)
    provider.on("Summarise", Text("Flowers."))
    critic = Critic()

    await critic.judge("Roses")

    inner = next(request for request in provider.requests if request.last_user.startswith("Summarise"))
    assert roles(inner.messages) == ["system", "user"]
    assert roles(critic.conversation) == ["user", "assistant", "tool", "assistant"]


async def test_a_tool_may_ask_a_prompt_of_its_agent_in_plain_code(provider: Provider) -> None:
    provider.on("Judge", call("read_briefly", path="a"), PASS)
    provider.on("Summarise: text of a", Text("Flowers."))

    await Critic().judge("Roses")

    assert tool_results(provider) == ["Flowers."]


async def test_what_a_prompt_inside_another_uses_is_counted(provider: Provider) -> None:
    provider.on("Judge", call("summarise", text="Roses are red"), PASS)
    provider.on("Summarise", Text("Flowers.", prompt_tokens=100, completion_tokens=50))
    checkpoint = Checkpoint()

    await answer(Critic.judge, checkpoint, poem="Roses")

    assert checkpoint.usage.model_calls == 3
    assert (checkpoint.usage.prompt_tokens, checkpoint.usage.completion_tokens) == (120, 60)


async def test_what_prompts_inside_a_task_use_is_counted(provider: Provider) -> None:
    provider.enqueue(Text("Short"), Text("long"))
    checkpoint = Checkpoint()

    with accounting_to(checkpoint):
        text = await Critic().describe_both("Roses", "Violets")

    assert text == "Short and long"
    assert checkpoint.usage.model_calls == 2


async def test_a_model_that_is_unavailable_to_a_prompt_inside_is_no_news_for_the_model_outside(
    provider: Provider,
) -> None:
    provider.on("Judge", call("summarise", text="Roses are red"), PASS)
    provider.on("Summarise", Fault(429, retry_after=3))
    checkpoint = Checkpoint()

    with pytest.raises(ModelUnavailable) as caught:
        await answer(Critic.judge, checkpoint, poem="Roses")

    assert caught.value.retry_after == 3
    assert roles(checkpoint.entries) == ["assistant"]


# Answers that will not do


async def test_an_answer_that_does_not_fit_is_sent_back_with_what_is_wrong(provider: Provider) -> None:
    provider.enqueue(Text('{"verdict": "MAYBE"}'), PASS)

    assert await Critic().judge("Roses") == Verdict(verdict="PASS")

    assert provider.requests[1].messages[-2] == {"role": "assistant", "content": '{"verdict": "MAYBE"}'}
    told = provider.requests[1].last_user
    assert told.startswith("Your answer does not fit: 'verdict': Input should be 'PASS' or 'NEEDS_FIXES'.")
    assert json.dumps(Critic.judge.answer.schema) in told


async def test_what_a_validator_of_the_answers_model_says_reaches_the_model(provider: Provider) -> None:
    provider.enqueue(Text('{"verdict": "NEEDS_FIXES"}'), PASS)

    await Critic().judge("Roses")

    assert provider.requests[1].last_user.startswith("Your answer does not fit: say what has to be fixed.")


async def test_an_answer_that_is_no_json_is_sent_back(provider: Provider) -> None:
    provider.enqueue(Text("I like it."), Text('{"answer": [1, 2]}'))

    assert await Critic().rate("Roses") == [1, 2]

    assert "it is not valid JSON: expected " in provider.requests[1].last_user


async def test_an_answer_is_sent_back_three_times_at_most(provider: Provider) -> None:
    provider.enqueue(*[Text('{"verdict": "MAYBE"}')] * 9)

    with pytest.raises(AnswerInvalid):
        await Critic().judge("Roses")

    assert len(provider.requests) == 4


async def test_the_number_of_reasks_can_be_set(provider: Provider) -> None:
    provider.enqueue(*[Text("{}")] * 9)

    with pytest.raises(AnswerInvalid):
        await Critic().rate("Roses")

    assert len(provider.requests) == 2


async def test_an_invalid_answer_is_reported_with_method_who_problem_answer_and_mend(provider: Provider) -> None:
    provider.enqueue(*[Text('{"verdict": "MAYBE"}')] * 4)

    with (
        pytest.raises(AnswerInvalid) as caught,
        answering(CallContext("poems", "run", "critic-2", "Critic.judge", "7")),
    ):
        await Critic().judge("Roses")

    assert str(caught.value) == (
        "Critic.judge (critic-2, poems) answered 4 times with something that will not do as Verdict: "
        "'verdict': Input should be 'PASS' or 'NEEDS_FIXES'. Last answer: {\"verdict\": \"MAYBE\"} "
        "Loosen the type or use a stronger model."
    )


async def test_an_invalid_answer_outside_a_run_is_reported_with_the_agents_name(provider: Provider) -> None:
    provider.enqueue(*[Text("x" * 2000)] * 2)

    with pytest.raises(AnswerInvalid, match=r"^Critic\.rate \(anna\) answered 2 times .* as list\[int\]: ") as caught:
        await Critic(name="anna").rate("Roses")

    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", ["", None, " \n"], ids=["empty", "null", "blank"])
async def test_an_empty_answer_is_sent_back(provider: Provider, content: str | None) -> None:
    provider.enqueue(Text(content), Text("fine"))

    assert await Critic().describe("Roses") == "fine"

    assert provider.requests[1].last_user == "Your answer was empty. Answer."
    assert isinstance(provider.requests[1].messages[-2]["content"], str)  # OpenAI refuses null here


async def test_an_answer_that_was_cut_at_the_token_limit_is_sent_back(provider: Provider) -> None:
    provider.enqueue(Text("It rhy", finish_reason="length"), Text("It rhymes."))

    assert await Critic().describe("Roses") == "It rhymes."

    assert provider.requests[1].last_user == "Your answer was cut off at the token limit. Give a shorter one."


async def test_an_answer_that_is_cut_every_time_is_sent_back_three_times_at_most(provider: Provider) -> None:
    provider.enqueue(*[Text("It rhy", finish_reason="length")] * 9)

    with pytest.raises(AnswerInvalid, match=r"answered 4 times .* cut off .*Raise max_tokens, or ask for less\."):
        await Critic().describe("Roses")

    assert len(provider.requests) == 4


async def test_an_answer_before_the_required_tools_were_called_is_sent_back(provider: Provider) -> None:
    provider.enqueue(PASS, call("read", path="a"), PASS, call("count", words=[]), PASS)

    assert await Critic().check("a") == Verdict(verdict="PASS")

    assert provider.requests[1].last_user == "Before you answer you must call: read, count."
    assert provider.requests[3].last_user == "Before you answer you must call: count."


async def test_a_required_tool_that_failed_was_not_called(provider: Provider) -> None:
    provider.enqueue(call("read", wrong="a"), call("count", words=[]), PASS, call("read", path="a"), PASS)

    await Critic().check("a")

    assert provider.requests[3].last_user == "Before you answer you must call: read."


async def test_the_number_of_turns_is_limited(provider: Provider) -> None:
    provider.enqueue(*[call("read", path="a")] * 9)

    with pytest.raises(TurnLimit) as caught:
        await Critic().rate("Roses")

    assert len(provider.requests) == 4
    assert str(caught.value) == (
        "Critic.rate (critic) took 4 turns without giving an answer. Raise max_turns, or make the task smaller."
    )


async def test_the_number_of_turns_is_25_by_default(provider: Provider) -> None:
    provider.enqueue(*[call("shelve")] * 30)

    with pytest.raises(TurnLimit):
        await Critic().describe("Roses")

    assert len(provider.requests) == 25


@pytest.mark.parametrize("content", ["All tidy.", "", None], ids=["words", "empty", "null"])
async def test_a_prompt_that_returns_none_takes_any_last_word(provider: Provider, content: str | None) -> None:
    provider.enqueue(call("shelve"), Text(content))

    result: Any = await Critic().tidy()  # type: ignore[func-returns-value]

    assert result is None
    assert len(provider.requests) == 2


# An answer as a tool call


class ByTool(Critic):
    strategy = "tool"


async def test_a_final_answer_beside_other_tools_waits_for_them(provider: Provider) -> None:
    provider.enqueue(Tools((finally_answer(verdict="PASS"), ToolCall("read", {"path": "a"}))))
    critic = ByTool()

    assert await critic.judge("Roses") == Verdict(verdict="PASS")

    assert critic.ran == ["read a"]


async def test_a_final_answer_by_tool_is_rejected_as_the_result_of_its_call(provider: Provider) -> None:
    provider.enqueue(Tools((finally_answer(verdict="MAYBE"),)), Tools((finally_answer(verdict="PASS"),)))

    await ByTool().judge("Roses")

    [told] = tool_results(provider)
    assert told.startswith("Error: Your answer does not fit: 'verdict'")


async def test_a_final_answer_in_words_is_taken_although_a_tool_was_offered(provider: Provider) -> None:
    provider.enqueue(PASS)

    assert await ByTool().judge("Roses") == Verdict(verdict="PASS")


async def test_of_several_final_answers_in_a_turn_the_first_is_read_and_all_are_answered(provider: Provider) -> None:
    provider.enqueue(
        Tools((finally_answer(verdict="MAYBE"), finally_answer(verdict="PASS"))),
        Tools((finally_answer(verdict="NEEDS_FIXES", feedback="rhyme"), finally_answer(verdict="PASS"))),
    )
    critic = ByTool()

    verdict = await critic.judge("Roses")

    assert verdict.feedback == "rhyme"
    assert_that_every_tool_call_has_its_result(critic.conversation)


# Memory


@pytest.mark.parametrize("agent", [Critic, ByTool], ids=["in words", "by tool"])
async def test_an_agent_remembers_its_calls_with_every_tool_call_and_its_result(
    provider: Provider, agent: type[Critic]
) -> None:
    verdict = PASS if agent is Critic else Tools((finally_answer(verdict="PASS"),))
    provider.enqueue(call("read", path="a"), Text("{}"), verdict, Text("fine"))
    critic = agent()

    await critic.judge("Roses")
    await critic.describe("Violets")

    messages = provider.requests[-1].messages
    assert next(message["content"] for message in messages if message["role"] == "user") == "Judge this poem: Roses"
    assert messages[-1]["content"] == "Describe this poem: Violets"
    assert_that_every_tool_call_has_its_result(messages)


async def test_a_call_that_failed_is_not_remembered(provider: Provider) -> None:
    provider.enqueue(Text("fine"), Fault(400), Text("fine"))
    critic = Critic()

    await critic.describe("Roses")
    before = list(critic.conversation)
    with pytest.raises(Exception, match="HTTP 400"):
        await critic.describe("Violets")

    assert critic.conversation == before


async def test_agents_of_one_class_do_not_share_a_conversation(provider: Provider) -> None:
    provider.enqueue(Text("fine"), Text("fine"))

    await Critic().describe("Roses")
    await Critic().describe("Violets")

    assert roles(provider.requests[1].messages) == ["system", "user"]


# Usage


async def test_tokens_and_cost_of_every_turn_are_added_up(provider: Provider) -> None:
    provider.enqueue(call("read", path="a"), Text("fine", prompt_tokens=100, completion_tokens=50))
    checkpoint = Checkpoint()

    await TurnLoop(Critic(model="openai/gpt-4o-mini"), Critic.describe, {"poem": "Roses"}, checkpoint, Nothing()).run()

    usage = checkpoint.usage
    assert (usage.model_calls, usage.prompt_tokens, usage.completion_tokens) == (2, 110, 55)
    assert usage.models == ["openai/gpt-4o-mini"]
    assert usage.cost_usd == pytest.approx(110 * 0.15e-6 + 55 * 0.60e-6)  # its price per token


async def test_the_cost_of_a_model_without_a_price_is_unknown(provider: Provider) -> None:
    provider.enqueue(Text("fine"))
    checkpoint = Checkpoint()

    await answer(Critic.describe, checkpoint, poem="Roses")

    assert checkpoint.usage.cost_usd is None
    assert checkpoint.usage.prompt_tokens == 10


# Going on


def conversation(strategy: str) -> list[Reply]:
    """Return replies with everything in them that a call may meet."""

    def last(**arguments: Any) -> Reply:
        by_tool = Tools((ToolCall("final_answer", arguments, "0"),))
        return by_tool if strategy == "tool" else Text(json.dumps(arguments))

    reads = (ToolCall("read", {"path": "a"}, "0"), ToolCall("fly", {}, "0"), ToolCall("read", {"path": "b"}, "1"))
    return [
        Tools(reads),
        last(verdict="PASS"),
        Tools((ToolCall("count", {"words": ["x"]}, "0"), ToolCall("fail", {"how": "raise"}, "1")), content="Hm."),
        Text("It rhy", finish_reason="length"),
        last(verdict="MAYBE"),
        Tools((ToolCall("read", {"path": "c"}, "0"),)),
        last(verdict="NEEDS_FIXES", feedback="rhyme"),
    ]


class Attempt:
    """One attempt at a call: from what an earlier one recorded to the end."""

    def __init__(self, left: str = "{}") -> None:
        self.critic = Critic()
        self.checkpoint = Checkpoint.model_validate_json(left)
        self.recorded = [left]

    async def run(self, method: Method[..., Any]) -> Any:
        loop = TurnLoop(
            self.critic,
            method,
            {"path": "roses"},
            self.checkpoint,
            Nothing(),
            record=lambda: self.recorded.append(self.checkpoint.model_dump_json()),
        )
        value = await loop.run()
        assert_that_every_tool_call_has_its_result(loop.said())
        return value


@pytest.mark.parametrize("strategy", ["json_schema", "json_object", "tool", "text"])
async def test_a_call_goes_on_from_any_point_without_repeating_anything(provider: Provider, strategy: str) -> None:
    method = prompt(require=("read", "count"), strategy=strategy)(Critic.check.function)
    replies = conversation(strategy)
    provider.enqueue(*replies)
    first = Attempt()
    value = await first.run(method)
    assert len(provider.requests) == len(replies)
    assert len(first.recorded) > 12

    for left in first.recorded:
        asked = sum(message["role"] == "assistant" for message in json.loads(left).get("entries", []))
        provider.requests.clear()
        provider.enqueue(*replies[asked:])
        next_one = Attempt(left)

        assert await next_one.run(method) == value
        assert len(provider.requests) == len(replies) - asked
        assert next_one.critic.ran == first.critic.ran[len(first.critic.ran) - len(next_one.critic.ran) :]
        assert len(next_one.critic.ran) == len(first.critic.ran) - results_of_tools_that_ran(left)
        assert next_one.checkpoint == first.checkpoint


def results_of_tools_that_ran(left: str) -> int:
    """Count the recorded results of `read`, `count` and `fail`."""
    contents = [message["content"] for message in json.loads(left).get("entries", []) if message["role"] == "tool"]
    return sum(content.startswith(("text of", "1", "Error: fail failed")) for content in contents)


async def test_an_answer_that_was_received_is_not_asked_for_again(provider: Provider) -> None:
    provider.enqueue(PASS)
    first = Attempt()
    await first.run(Critic.inspect)
    provider.requests.clear()

    assert await Attempt(first.recorded[-1]).run(Critic.inspect) == Verdict(verdict="PASS")

    assert provider.requests == []


async def test_the_limits_count_what_earlier_attempts_did(provider: Provider) -> None:
    provider.enqueue(*[Text("{}")] * 9)
    checkpoint = Checkpoint()
    with pytest.raises(AnswerInvalid):
        await answer(Critic.rate, checkpoint, poem="Roses")

    with pytest.raises(AnswerInvalid, match="answered 2 times"):
        await answer(Critic.rate, Checkpoint.model_validate_json(checkpoint.model_dump_json()), poem="Roses")

    assert len(provider.requests) == 2
