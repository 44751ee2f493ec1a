"""Answers come in pieces, whatever happens among them; the whole is what it would have been at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from activities import Agent, prompt
from activities.contract.usage import Usage
from activities.errors import ContextTooLong, ModelRefused, ModelUnavailable
from activities.measures.catalogue import Metric
from activities.measures.measures import measuring
from activities.models import measured, streaming
from activities.models.hearing import Delta, counting, listening
from activities.models.model import ModelRequest, complete
from testing.prompt_cache import PromptCache
from tests.provider import Provider, Raw, Reply, Slow, Streamed, Text, ToolCall, Tools

HELLO = [{"role": "user", "content": "hello"}]
BOTH = ("openai/any", "anthropic/any")
LONG = Text("Much was said of the weather, and little of it was true. " * 10)
MANY = (ToolCall("look", {"at": "ä 日本 🦆" * 20}), ToolCall("read", {"path": "b"}), ToolCall("look", {}))


async def asked(provider: Provider, model: str = "openai/any", silence: float = 60.0, **parameters: Any) -> Any:
    base = provider.url.removesuffix("/v1") if model.startswith("anthropic") else provider.url
    here = {"api_base": base, "api_key": "any", **parameters}
    return await complete(ModelRequest(model, HELLO, parameters=here, silence=silence))


def events(*data: Any, end: str = "data: [DONE]\n\n", more: str = "") -> Raw:
    """Return a stream that is made by hand."""
    sent = "".join(f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in data)
    return Raw(200, f"{sent}{more}{end}".encode(), {"Content-Type": "text/event-stream"})


def chunk(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def call(index: int | None, arguments: str | None = None, name: str | None = None, id: str | None = None) -> Any:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    given = {"index": index, "id": id, "function": function}
    return chunk(tool_calls=[{key: value for key, value in given.items() if value is not None}])


USAGE = {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


# What a stream is made of


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(
    "reply",
    [LONG, Tools(MANY, "Look."), Tools(MANY), Text("", "length"), Text("  two\n\nlines ")],
    ids=["text", "text and tools", "tools", "nothing", "spaces"],
)
async def test_a_streamed_answer_is_the_same_as_one_at_once(model: str, reply: Text | Tools) -> None:
    with Provider(lambda _: reply, cache=PromptCache(least=1)) as provider:
        at_once, streamed = await asked(provider, model, silence=0), await asked(provider, model)
        seen = [bool(request.body.get("stream")) for request in provider.requests]

    def without_ids(answer: Any) -> Any:
        calls = [{**made, "id": ""} for made in answer.message.get("tool_calls", ())]
        return {**answer.message, "tool_calls": calls}, answer.finish_reason, answer.usage.completion_tokens

    assert seen == [False, True]
    assert without_ids(streamed) == without_ids(at_once)
    assert streamed.usage.estimated == 0
    assert streamed.usage.prompt_tokens == at_once.usage.prompt_tokens


async def test_the_cache_is_told_of_in_both_protocols() -> None:
    long = [{"role": "user", "content": "word " * 8_000}]
    for model in BOTH:
        with Provider(lambda _: LONG, cache=PromptCache()) as provider:
            base = provider.url.removesuffix("/v1") if model.startswith("anthropic") else provider.url
            here = {"api_base": base, "api_key": "any"}
            first, second = [await complete(ModelRequest(model, long, parameters=here, goes_on=True)) for _ in range(2)]
        assert (first.usage.cache_write_tokens > 5_000) == (model == "anthropic/any")
        assert second.usage.cache_read_tokens > 5_000


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
async def test_a_stream_may_be_cut_anywhere(provider: Provider, size: int) -> None:
    written = '{"at": "ä 日本 🦆"}'
    sent = "".join(
        f"data: {json.dumps(one, ensure_ascii=False)}\r\n\r\n"
        for one in (chunk(content="ä 🦆"), call(0, written[:9], "look", "1"), call(0, written[9:]), USAGE)
    )
    provider.enqueue(_Bytes(f": hello\r\n\r\nevent: x\r\n{sent}data: [DONE]\r\n\r\n".encode(), size))

    answer = await asked(provider)

    assert answer.message["content"] == "ä 🦆"
    assert answer.message["tool_calls"][0]["function"] == {"name": "look", "arguments": written}


class _Bytes:
    """A stream whose bytes come in chunks of some size."""

    def __init__(self, body: bytes, size: int) -> None:
        self.parts = [body[start : start + size] for start in range(0, len(body), size)]

    def send(self, to: Any) -> None:
        to.send_response(200)
        to.send_header("Content-Type", "text/event-stream")
        to.send_header("Transfer-Encoding", "chunked")
        to.end_headers()
        for part in self.parts:
            to.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        to.wfile.write(b"0\r\n\r\n")


LOOK, READ = ("look", '{"at": "a"}'), ("read", '{"path": "b"}')


@pytest.mark.parametrize(
    ("pieces", "made"),
    [
        ([call(0, '{"at"', "look", "1"), call(1, '{"pa', "read", "2"), call(0, ': "a"}'), call(1, 'th": "b"}')], 2),
        ([call(1, READ[1], "read", "2"), call(0, LOOK[1], "look", "1")], 2),
        ([call(0, LOOK[1], "look", "1"), call(0, READ[1], "read", "2")], 2),
        ([call(None, LOOK[1], "look"), call(None, READ[1], "read")], 2),
        ([call(None, LOOK[1], "look", "1"), call(None, '{"path"', "read", "2"), call(None, ': "b"}')], 2),
        ([call(0, LOOK[1], "look", "1"), call(1, READ[1], "read", "1")], 2),
        ([call(0, '{"at"', "look", "1"), call(0, ': "a"}', "look", "1")], 1),
        ([call(0, "", "lo", "1"), call(0, LOOK[1], "ok")], 1),
        ([chunk(tool_calls={"index": 0, "function": {"name": "look", "arguments": {"at": "a"}}})], 1),
        ([chunk(tool_calls=[None, 5]), call(0, LOOK[1], "look")], 1),
        ([chunk(function_call={"name": "look"}), chunk(function_call={"arguments": LOOK[1]})], 1),
    ],
    ids=[
        "interleaved",
        "another order",
        "one index for all",
        "no index, no id",
        "no index",
        "one id for all",
        "said again",
        "a name in two",
        "arguments as an object",
        "calls that are none",
        "the old form",
    ],
)
async def test_tool_calls_are_put_together(provider: Provider, pieces: Sequence[Any], made: int) -> None:
    provider.enqueue(events(*pieces, chunk("tool_calls"), USAGE))

    calls = (await asked(provider)).message["tool_calls"]

    assert [(c["function"]["name"], c["function"]["arguments"]) for c in calls] == [LOOK, READ][:made]


@pytest.mark.parametrize(
    ("reply", "content"),
    [
        (events(chunk(content="fine"), chunk("stop"), USAGE, end=""), "fine"),
        (events(chunk(content="fine"), USAGE), "fine"),
        (events({"choices": [{"text": "fi"}]}, {"choices": [{"text": "ne"}]}, USAGE), "fine"),
        (events({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}, USAGE), "fine"),
        (events(chunk(content=[{"type": "text", "text": "fi"}]), chunk(content="ne"), USAGE), "fine"),
        (events(chunk(content="fine", role="assistant"), chunk(content=None, role="assistant"), USAGE), "fine"),
        (events({**chunk(content="fine"), "usage": USAGE["usage"]}), "fine"),
        (events({**chunk(content="fine"), "x_groq": {"usage": USAGE["usage"]}}), "fine"),
        (events({"choices": [{"index": 1, "delta": {"content": "no"}}]}, chunk(content="fine"), USAGE), "fine"),
        (Raw(200, events(chunk(content="fine"), USAGE).body), "fine"),
        (Raw(200, events(chunk(content="fine"), USAGE).body.replace(b"\n\n", b"\n"), events().headers), "fine"),
    ],
    ids=[
        "no [DONE]",
        "no reason to end",
        "text",
        "messages",
        "parts",
        "roles",
        "usage with the answer",
        "Groq's usage",
        "another choice",
        "not said to be a stream",
        "lines for events",
    ],
)
async def test_streams_that_bend_the_protocol_are_read(provider: Provider, reply: Reply, content: str) -> None:
    provider.enqueue(reply)

    answer = await asked(provider)

    assert answer.message["content"] == content
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.estimated) == (10, 5, 0)


async def test_reasoning_comes_through(provider: Provider) -> None:
    thought = [{"type": "thinking", "thinking": "Hm, "}], [{"type": "thinking", "thinking": "so.", "signature": "s1"}]
    provider.enqueue(
        events(
            chunk(reasoning_content="Hm, ", thinking_blocks=thought[0]),
            chunk(reasoning_content="so.", thinking_blocks=thought[1]),
            chunk("stop", content="Yes."),
            USAGE,
        )
    )

    message = (await asked(provider)).message

    assert (message["reasoning_content"], message["content"]) == ("Hm, so.", "Yes.")
    assert message["thinking_blocks"] == [{"type": "thinking", "thinking": "Hm, so.", "signature": "s1"}]


def message_events(*blocks: dict[str, Any], stop: str = "end_turn") -> Raw:
    from testing.streams import of_message

    usage = {"input_tokens": 9, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 7}
    body = {"id": "m", "type": "message", "role": "assistant", "model": "any", "content": list(blocks)}
    sent = of_message({**body, "stop_reason": stop, "stop_sequence": None, "usage": usage})
    return Raw(200, "".join(sent).encode(), {"Content-Type": "text/event-stream"})


async def test_thinking_of_anthropics_goes_back_as_it_came(provider: Provider) -> None:
    thinking = {"type": "thinking", "thinking": "First this, then that.", "signature": "EqQBCgIYAhIM"}
    redacted = {"type": "redacted_thinking", "data": "EmwKAhgBEgy"}
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "ä"}}
    provider.enqueue(message_events(thinking, redacted, use, stop="tool_use"), Text("done"))
    answer = await asked(provider, "anthropic/claude-sonnet-4-5")

    said = [*HELLO, answer.message, {"role": "tool", "tool_call_id": "t1", "content": "seen"}]
    here = {"api_base": provider.url.removesuffix("/v1"), "api_key": "any"}
    await complete(ModelRequest("anthropic/claude-sonnet-4-5", said, parameters=here))

    sent = provider.requests[1].sent
    assert sent is not None
    back = sent["messages"][1]["content"]
    assert back[:2] == [thinking, redacted]
    assert {key: back[2][key] for key in use} == use
    assert (answer.usage.prompt_tokens, answer.usage.cache_read_tokens, answer.usage.completion_tokens) == (14, 3, 7)
    assert answer.usage.cache_write_tokens == 2
    assert answer.usage.cost_usd == pytest.approx(9 * 3e-6 + 3 * 0.3e-6 + 2 * 3.75e-6 + 7 * 15e-6)


async def test_arguments_that_are_cut_off_are_told_to_be_none(provider: Provider) -> None:
    whole = message_events({"type": "tool_use", "id": "t", "name": "look", "input": {"at": "abc"}}, stop="max_tokens")
    provider.enqueue(Raw(200, whole.body.replace(b'\\"abc\\"}', b'\\"ab'), whole.headers))

    message = (await asked(provider, "anthropic/any")).message

    assert "not_valid" in message["tool_calls"][0]["function"]["arguments"]


# What goes wrong


@pytest.mark.parametrize("model", BOTH)
async def test_an_answer_that_falls_silent_is_noticed_by_its_silence(model: str) -> None:
    used: list[Usage] = []
    with Provider(lambda _: Streamed(LONG, pieces=30)) as provider:
        began = time.monotonic()
        with counting(used.append), pytest.raises(ModelUnavailable) as caught:
            await asked(provider, model, silence=0.5, timeout=60)
        assert time.monotonic() - began < 30

    said = str(caught.value)
    assert said.startswith(f"{model} did not end its answer: it fell silent: nothing came for 0.5 s, since ")
    assert "characters of its answer. This may pass: a run asks again by itself. Raise silence" in said
    assert (caught.value.outage, caught.value.stalled) == (True, True)
    assert [(one.model_calls, one.estimated, 20 < one.completion_tokens < 80) for one in used] == [(1, 1, True)]


@pytest.mark.parametrize("model", BOTH)
async def test_signs_of_life_keep_an_answer_alive_until_its_time_is_over(model: str) -> None:
    reply = Streamed(LONG, pieces=30, pings=0.1)
    expected = pytest.raises(ModelUnavailable, match=f"^{model} did not answer in time")
    with Provider(lambda _: reply) as provider, expected as caught:
        await asked(provider, model, silence=1, timeout=1.8)

    assert not caught.value.stalled


async def test_a_model_may_think_for_long_before_it_speaks(provider: Provider) -> None:
    provider.enqueue(Slow(1, Text("Well.")))

    answer = await asked(provider, silence=0.5)

    assert answer.message["content"] == "Well."
    assert 0.9 < answer.first_token_s < 30


async def test_when_the_first_word_came_is_measured(provider: Provider) -> None:
    seen: list[tuple[str, str]] = []

    class Seen:
        def count(self, metric: Metric, by: int, labels: Mapping[str, str]) -> None: ...

        def observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
            seen.append((metric.name, labels["model"]))

    with measuring(Seen()):
        for silence in (60, 0):
            provider.enqueue(Text("fine"))
            here = {"api_base": provider.url, "api_key": "any"}
            await measured.complete(ModelRequest("openai/any", HELLO, parameters=here, silence=silence))

    assert [name for name, _ in seen].count("choreography_model_first_token") == 1
    assert ("choreography_model_first_token", "openai/any") in seen


async def test_silence_before_the_first_word_is_bounded_by_the_time_of_the_request(provider: Provider) -> None:
    provider.enqueue(Streamed(LONG, pieces=1))

    with pytest.raises(ModelUnavailable, match=r"^openai/any did not answer in time: Request timed out\."):
        await asked(provider, silence=0.2, timeout=1)


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize("how", ["cut", "end"])
async def test_an_answer_that_breaks_off_is_none(model: str, how: Any) -> None:
    used: list[Usage] = []
    with Provider(lambda _: Streamed(LONG, pieces=30, breaks=how)) as provider, counting(used.append):
        with pytest.raises(
            ModelUnavailable, match=f"^{model} gave no answer that can be read: it broke off after "
        ) as e:
            await asked(provider, model)
        assert len(provider.requests) == 1

    assert not e.value.outage
    assert [one.estimated for one in used] == [1]


@pytest.mark.parametrize("model", BOTH)
async def test_an_error_in_the_middle_is_told_as_one(model: str) -> None:
    words = rf"^{model} could not answer \(HTTP 5\d\d\): Overloaded on demand\."
    with (
        Provider(lambda _: Streamed(LONG, pieces=30, breaks="error")) as provider,
        pytest.raises(ModelUnavailable, match=words) as caught,
    ):
        await asked(provider, model)

    assert caught.value.outage


@pytest.mark.parametrize("model", BOTH)
async def test_junk_in_the_middle_may_pass(model: str) -> None:
    words = f"^{model} gave no answer that can be read: in its stream is an event that is no JSON"
    with (
        Provider(lambda _: Streamed(LONG, pieces=30, breaks="junk")) as provider,
        pytest.raises(ModelUnavailable, match=words),
    ):
        await asked(provider, model)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (events(), ModelUnavailable, "it has no 'choices'"),
        (events("5"), ModelUnavailable, "no JSON object"),
        (events("[" * 3_000), ModelUnavailable, "nested too deeply"),
        (events("[]," * 200_001), ModelRefused, "brackets and braces"),
        (events(chunk("stop", content=b"\xff".decode("latin1") * 9), "\xff{"), ModelUnavailable, "no JSON"),
        (events({"error": {"message": "Slow down", "code": 429}}), ModelUnavailable, "limiting the rate: Slow down"),
        (events(chunk(content="no"), chunk("content_filter"), USAGE), ModelRefused, "content filter"),
        (events(chunk(refusal="I "), chunk(refusal="won't."), chunk("stop"), USAGE), ModelRefused, "I won't."),
        (events(chunk(content="a"), chunk("error"), USAGE), ModelUnavailable, "it broke off"),
        (events(*[chunk(content="x" * 100_000)] * 21), ModelRefused, "more than 2,000,000 bytes"),
        (events("x" * 2_100_000), ModelRefused, "more than 2,000,000 bytes"),
        (events(end="\n" * 2_000_000), ModelRefused, "more than 1,000,000 lines"),
    ],
    ids=[
        "nothing",
        "a number",
        "deep",
        "brackets",
        "no UTF-8",
        "an error at once",
        "a filter",
        "a refusal",
        "an end by an error",
        "too much said",
        "an endless event",
        "an endless stream",
    ],
)
async def test_streams_that_are_no_answer(provider: Provider, reply: Reply, kind: type, words: str) -> None:
    provider.enqueue(reply)
    began = time.monotonic()

    with pytest.raises(kind, match=words):
        await asked(provider)

    assert time.monotonic() - began < 20


async def test_a_compressed_stream_is_unpacked_as_it_comes(provider: Provider) -> None:
    import gzip

    body = gzip.compress(events(chunk(content="fine"), USAGE).body)
    bomb = gzip.compress((b": " + b"x" * 1_000_000 + b"\n") * 50)
    for data in (body, bomb):
        provider.enqueue(
            Raw(200, data, {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}, chunked=True)
        )

    assert (await asked(provider)).message["content"] == "fine"
    with pytest.raises(ModelRefused, match="more than 2,000,000 bytes"):
        await asked(provider)


async def test_a_later_request_is_not_harmed(provider: Provider) -> None:
    for reply in (Streamed(LONG, pieces=30), Streamed(LONG, pieces=30, breaks="cut"), events("{")):
        provider.enqueue(reply, Text("fine"))
        with pytest.raises(ModelUnavailable):
            await asked(provider, silence=0.3)
        assert (await asked(provider)).message["content"] == "fine"


# Servers that can't


@pytest.mark.parametrize(("status", "refused"), [(400, "stream_options"), (422, "stream"), (500, "stream")])
async def test_what_a_server_does_not_take_is_left_out_from_then_on(
    provider: Provider, status: int, refused: Any
) -> None:
    provider.refuse(refused, status)
    provider.enqueue(*[Text("fine")] * 3)

    for _ in range(3):
        assert (await asked(provider)).message["content"] == "fine"

    ways = [[key for key in ("stream", "stream_options") if key in request.body] for request in provider.requests]
    left = {"stream_options": [["stream", "stream_options"], ["stream"], []], "stream": [["stream", "stream_options"]]}
    if refused == "stream":
        assert ways == [["stream", "stream_options"], ["stream"], [], [], []]
    else:  # and then nothing tells what was used
        assert ways == [*left["stream_options"], []]


async def test_a_refusal_that_means_something_else_is_told(provider: Provider) -> None:
    from tests.provider import CONTEXT_LENGTH, Fault

    provider.enqueue(CONTEXT_LENGTH)
    with pytest.raises(ContextTooLong):
        await asked(provider)
    provider.enqueue(*[Fault(400, "The stream of your words is too long.")] * 3, Text("fine"))
    with pytest.raises(ModelRefused, match="The stream of your words"):
        await asked(provider)
    await asked(provider)

    assert provider.requests[-1].body["stream_options"] == {"include_usage": True}


async def test_a_server_that_does_not_tell_what_a_stream_used_is_asked_at_once_from_then_on(provider: Provider) -> None:
    provider.enqueue(events(chunk("stop", content="fine")), Text("fine"))

    first, second = await asked(provider), await asked(provider)

    assert (first.usage.estimated, second.usage.estimated) == (1, 0)
    assert "stream" not in provider.requests[1].body


@pytest.mark.parametrize("silence", [0, 0.0])
async def test_without_a_silence_nothing_is_streamed(provider: Provider, silence: float) -> None:
    provider.enqueue(Text("fine"))

    answer = await asked(provider, silence=silence)

    assert "stream" not in provider.requests[0].body
    assert answer.first_token_s is None


async def test_what_is_said_may_speak_of_streams(provider: Provider) -> None:
    provider.enqueue(Text("fine"))
    said = [{"role": "user", "content": 'Set {"stream": false, "stream_options": 1}.'}]

    await complete(
        ModelRequest("openai/any", said, parameters={"api_base": provider.url, "extra_body": {"stream": False}})
    )

    assert provider.requests[0].messages == said
    assert provider.requests[0].body["stream"] is True


# Listening


@pytest.mark.parametrize("model", BOTH)
async def test_whoever_listens_hears_each_piece_as_it_comes(model: str) -> None:
    heard: list[Delta] = []
    reply = Tools((ToolCall("look", {"at": "a b"}),), "Look at it.")
    with Provider(lambda _: reply) as provider, listening(heard.append), listening(_fails):
        await asked(provider, model)

    assert "".join(delta.text for delta in heard if delta.kind == "text") == "Look at it."
    assert json.loads("".join(delta.text for delta in heard if delta.kind == "tool")) == {"at": "a b"}
    assert [delta.tool for delta in heard if delta.tool] == ["look"]
    assert len(heard) > 4


def _fails(delta: Delta) -> None:
    raise RuntimeError("no")


async def test_an_answer_that_nobody_waits_for_any_more_is_paid_for_as_far_as_it_came(provider: Provider) -> None:
    came = asyncio.Event()
    loop = asyncio.get_running_loop()
    provider.enqueue(Streamed(LONG, pieces=30))

    used: list[Usage] = []
    with listening(lambda _: loop.call_soon_threadsafe(came.set)), counting(used.append):
        asking = asyncio.create_task(asked(provider))
    async with asyncio.timeout(20):
        await came.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert [one.estimated for one in used] == [1]


# In agents


class Talker(Agent):
    """You talk."""

    silence = 0.3

    @prompt
    async def talk(self) -> str:
        """Talk."""

    @prompt(silence=0)
    async def talk_at_once(self) -> str:
        """Talk."""


class Unheard(Agent):
    """You talk."""

    silence = None

    @prompt
    async def talk(self) -> str:
        """Talk."""


async def test_agents_and_their_methods_set_the_silence(provider: Provider) -> None:
    provider.enqueue(Streamed(LONG, pieces=30), *[Text("fine")] * 2)
    with pytest.raises(ModelUnavailable, match=r"nothing came for 0\.3 s"):
        await Talker().talk()
    assert await Talker().talk_at_once() == "fine"
    assert await Unheard().talk() == "fine"
    assert [bool(request.body.get("stream")) for request in provider.requests] == [True, False, False]


@pytest.fixture(autouse=True)
def _forget_what_servers_take() -> None:
    streaming._best.clear()
