"""The board over HTTP, on the real server: what it shows, what it does, and for whom."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import jsonschema
import pytest
from aiopenapi3 import OpenAPI
from temporalio.client import WorkflowHandle

from console.board.pages import Pages
from console.said import said_of
from tests.conftest import Ledger, Runs
from tests.console.board.conftest import Served
from tests.provider import Provider, Slow, Streamed, Text, ToolCall, Tools
from tests.workflows.council import decide_and_produce, decide_once, produce_twice

COUNCIL = ("tests.workflows.council",)
PLAN = {"title": "Roses", "pages": 12}
PAGE = {"Accept": "text/html"}


async def asked(board: httpx.AsyncClient, run: str, method: str) -> dict[str, Any]:
    """Wait until a run asks something; return the question."""
    while True:
        found = (await board.get(f"/runs/{run}")).json().get("questions", ())
        if [question["method"] for question in found] == [method]:
            return dict(found[0])
        await asyncio.sleep(0.05)


async def test_a_run_is_started_answered_and_seen_to_its_end(runs: Runs, board: httpx.AsyncClient) -> None:
    async with runs.serving(*COUNCIL):
        new = {"choreography": "decide_once", "inputs": [PLAN], "id": "a/run with space"}
        begun = await board.post("/runs", json=new)
        assert begun.json() == {"id": "a/run with space", "told": "a/run with space has begun"}
        assert (await board.post("/runs", json=new)).status_code == 409
        question = await asked(board, "a/run with space", "Owner.decide")

        wrong = {"question": question["id"], "answer": {"verdict": "perhaps"}}
        refused = await board.post("/runs/a/run with space/answers", json=wrong)
        assert refused.status_code == 409
        assert "does not fit" in refused.json()["error"]

        given = {"question": question["id"], "answer": {"verdict": "go", "pages": 3}}
        assert (await board.post("/runs/a/run with space/answers", json=given)).status_code == 200
        while not (run := (await board.get("/runs/a/run with space")).json())["ended"]:
            await asyncio.sleep(0.05)
    assert json.loads(run["result"]) == {"verdict": "go", "pages": 3}
    listed = (await board.get("/runs")).json()
    assert {"a/run with space": "done"}.items() <= {one["id"]: one["status"] for one in listed}.items()
    assert not [one for one in listed if one["choreography"] == "conversation"]


async def test_a_form_answers_and_comes_back_to_the_page(runs: Runs, board: httpx.AsyncClient) -> None:
    async with runs.serving(*COUNCIL):
        run = await runs.start(decide_once, PLAN)
        question = await asked(board, run.id, "Owner.decide")
        page = (await board.get(f"/runs/{run.id}", headers=PAGE)).text
        fields = re.findall(r'name="([^"]+)"', page.partition('class="question"')[2].partition("</form>")[0])
        assert fields == ["question", "answer.verdict", "answer.pages"]
        filled = {"question": question["id"], "answer.verdict": '"stop"', "answer.pages": "many"}
        assert "wants a number" in (await board.post(f"/runs/{run.id}/answers", data=filled, headers=PAGE)).text
        done = await board.post(f"/runs/{run.id}/answers", data={**filled, "answer.pages": "0"}, headers=PAGE)
        assert (done.status_code, done.headers["location"]) == (303, f"/runs/{run.id}")
        pages = [(await board.get(f"/runs/{run.id}", headers=PAGE)).text for _ in range(2)]
        assert [f"{question['id']} is answered" in page for page in pages] == [True, False]
        assert await run.result() == {"verdict": "stop", "pages": 0}


async def test_a_tool_is_approved_with_other_arguments_and_a_wrong_one_loses_nothing(
    runs: Runs, served: Served, provider: Provider, ledger: Ledger
) -> None:
    board = await served("ann=answer:first-secret")
    board.headers["Authorization"] = "Bearer first-secret"
    provider.enqueue(Tools((ToolCall("print_out", {"title": "<b>Roses", "ledger": str(ledger.path)}),)), Text("done"))
    provider.enqueue(Text("end"))
    async with runs.serving(*COUNCIL):
        run = await runs.start(produce_twice, "Roses")
        question = await asked(board, run.id, "Press.print_out")
        address, id = f"/runs/{run.id}/answers", {"question": question["id"]}
        other = {**id, "answer.approve": "true", "answer.arguments.title": "Lilies </textarea>"}
        wrong = await board.post(address, data={**other, "answer.reason": "x" * 5_000}, headers=PAGE)
        assert wrong.status_code == 409
        form = wrong.text.partition('class="question"')[2].partition("</form>")[0]
        assert "\nLilies &lt;/textarea&gt;</textarea>" in form
        assert "x" * 5_000 in form
        assert form.index("x" * 5_000) < form.index("String should have at most 4000 characters")
        given = {**id, "answer": {"approve": True, "arguments": {"title": 7}}}
        refused = await board.post(address, json=given)
        assert (refused.status_code, "'title': Input should be" in refused.json()["error"]) == (409, True)

        done = await board.post(address, data={**other, "answer.reason": ""}, headers=PAGE)
        assert done.status_code == 303
        await run.result()
        assert ledger.lines("printed") == [" Lilies </textarea> as 1/1/0"]
        late = await board.post(address, data=other, headers=PAGE)
        assert (late.status_code, "somebody has answered it" in late.text, "Lilies &lt;/" in late.text) == (
            409,
            *[True] * 2,
        )
        [decided] = [
            call["decided"]
            for call in (await board.get(f"/runs/{run.id}/calls")).json()
            if not call["question"] and call["decided"]
        ]
    assert decided == ['print_out was approved with changes by ann: title: "<b>Roses" → "Lilies </textarea>"']


async def test_a_run_is_paused_given_a_budget_resumed_told_and_cancelled(
    runs: Runs, board: httpx.AsyncClient, provider: Provider
) -> None:
    provider.enqueue(Text("one"), Slow(60, Text("two")))
    async with runs.serving(*COUNCIL):
        run = await runs.start(produce_twice, "Roses")
        while not (await board.get(f"/runs/{run.id}")).json()["progress"]["calls_done"]:
            await asyncio.sleep(0.05)
        assert (await board.post(f"/runs/{run.id}/pause")).status_code == 200
        assert (await board.get(f"/runs/{run.id}")).json()["headline"] == "paused"
        assert (await board.post(f"/runs/{run.id}/budget", json={"usd": 3})).status_code == 200
        assert (await board.post(f"/runs/{run.id}/budget", json={"euro": 3})).status_code == 400
        assert (await board.post(f"/runs/{run.id}/resume")).status_code == 200
        told = await board.post(f"/runs/{run.id}/tells", json={"instance": "press-1", "text": "Hurry."})
        assert "heard" in told.json()["told"]
        said = (await board.get(f"/runs/{run.id}/transcripts/press-1")).json()["said"]
        assert [one["text"] for one in said] == ["Produce Roses.", "one", "Hurry."]
        assert (await board.post(f"/runs/{run.id}/cancel")).status_code == 200
        await ended(board, run, "cancelled")


async def test_what_holds_a_run_is_shown_with_what_lets_it_go_on(
    runs: Runs, board: httpx.AsyncClient, provider: Provider
) -> None:
    provider.enqueue(Text("one"), Text("two"))
    async with runs.serving(*COUNCIL):
        run = await runs.start(produce_twice, "Roses", {"budget": {"calls": 1}})
        while not (holds := (await board.get(f"/runs/{run.id}")).json()["holds"]):
            await asyncio.sleep(0.05)
        assert holds == [{"what": "budget", "why": "budget: 1 of 1 calls spent", "raised": {"calls": 2}}]
        page = (await board.get(f"/runs/{run.id}", headers=PAGE)).text
        assert "1 of 1 calls spent" in page
        assert "temporal workflow update" not in page
        await board.post(f"/runs/{run.id}/pause")
        assert {hold["what"] for hold in (await board.get(f"/runs/{run.id}")).json()["holds"]} == {"paused", "budget"}
        await board.post(f"/runs/{run.id}/resume")
        form = {"calls": "2", "usd": "none", "tokens": ""}
        assert (await board.post(f"/runs/{run.id}/budget", data=form, headers=PAGE)).status_code == 303
        assert await run.result() == ["one", "two"]


async def test_the_list_says_who_is_asked_what(runs: Runs, board: httpx.AsyncClient) -> None:
    async with runs.serving(*COUNCIL):
        run = await runs.start(decide_once, PLAN)
        await asked(board, run.id, "Owner.decide")
        while not [one for one in (await board.get("/runs")).json() if one["id"] == run.id and one["asks"]]:
            await asyncio.sleep(0.05)
        assert "owner-1, Owner.decide" in (await board.get("/runs", headers=PAGE)).text
        while run.id not in [one["id"] for one in (await board.get("/runs?status=asks")).json()]:
            await asyncio.sleep(0.05)
        await run.terminate()
        while run.id in [one["id"] for one in (await board.get("/runs?status=waits")).json()]:
            await asyncio.sleep(0.05)


async def test_a_run_that_nobody_serves_is_listed_and_its_page_says_so(runs: Runs, board: httpx.AsyncClient) -> None:
    new = {"choreography": "decide_once", "inputs": [PLAN], "id": "unserved", "queue": "nobody.choreography"}
    assert (await board.post("/runs", json=new)).status_code == 200
    while "unserved" not in [one["id"] for one in (await board.get("/runs?status=running")).json()]:
        await asyncio.sleep(0.05)
    page = await board.get("/runs/unserved", headers=PAGE)
    assert (page.status_code, 'class="trouble"' in page.text) == (200, True)
    for path in ("calls", "files", "transcripts/owner-1"):
        assert (await board.get(f"/runs/unserved/{path}", headers=PAGE)).status_code in (200, 404)
    assert "unserved/terminate" in page.text
    assert (await board.post("/runs/unserved/terminate")).json() == {"id": "unserved", "told": "unserved has ended"}
    await ended(board, runs.client.get_workflow_handle("unserved"), "terminated")


async def ended(board: httpx.AsyncClient, run: WorkflowHandle[Any, Any], headline: str) -> None:
    while not (seen := (await board.get(f"/runs/{run.id}")).json())["ended"]:
        await asyncio.sleep(0.05)
    assert seen["headline"] == headline


async def test_a_run_is_taken_up_again_from_one_of_its_calls(
    runs: Runs, board: httpx.AsyncClient, provider: Provider
) -> None:
    provider.enqueue(Text("one"), Text("two"), Text("other"))
    async with runs.serving(*COUNCIL):
        run = await runs.start(produce_twice, "Roses")
        assert await run.result() == ["one", "two"]
        calls = (await board.get(f"/runs/{run.id}/calls")).json()
        assert [(call["instance"], call["outcome"]) for call in calls] == [("press-1", "done")] * 2
        begun = await board.post(f"/runs/{run.id}/forks", json={"at": calls[1]["step"], "id": f"{run.id}-again"})
        assert begun.status_code == 200, begun.text
        assert await runs.client.get_workflow_handle(f"{run.id}-again").result() == ["one", "other"]
        refused = await board.post(f"/runs/{run.id}/forks", json={"at": "99"})
        assert (refused.status_code, "no step '99'" in refused.json()["error"]) == (409, True)


async def test_what_agents_say_is_text_whatever_it_looks_like(
    runs: Runs, board: httpx.AsyncClient, provider: Provider, ledger: Ledger
) -> None:
    hostile = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31mred\x1b]8;;http://x\x07 {{ 7*7 }}"
    call = ToolCall("look_up", {"title": hostile, "ledger": str(ledger.path)})
    provider.enqueue(Tools((call,)), Text(hostile + "long " * 100_000), Text("end"))
    async with runs.serving(*COUNCIL):
        run = await runs.start(produce_twice, hostile)
        await run.result()
        pages = [
            (await board.get(path, headers=PAGE)).text
            for path in (f"/runs/{run.id}", f"/runs/{run.id}/calls", f"/runs/{run.id}/transcripts/press-1")
        ]
    for page in pages:
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "\x1b" not in page
        assert " 49" not in page
        assert len(page) < 300_000
    assert "&lt;script&gt;alert(1)" in pages[2]
    assert "red {{ 7*7 }}" in pages[2]


@pytest.mark.parametrize(
    "line", ["x", "<script>alert(1)</script>", "\x1b[31mred", "\x1b]8;;http://x", "\x1b]y", "\u202egnirts", "{{ 7*7 }}"]
)
def test_a_line_of_ten_megabytes_is_shown_in_short(line: str) -> None:
    entry = {"role": "assistant", "content": line * (10_000_000 // len(line))}
    page = Pages().text(
        "transcript.html", id="run", instance="press-1", said=[said_of(entry)], left_out=0, visitor=None
    )
    assert "characters left out" in page or "\x1b" in line
    assert len(page) < 200_000
    assert not {"\x1b", "\u202e"} & set(page)
    assert "<script>alert" not in page


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 421),
    ],
)
async def test_another_sites_page_does_nothing(
    runs: Runs, board: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    form = {"choreography": "decide_once", "inputs": json.dumps(PLAN), "id": "by-another-site"}
    refused = await board.post("/runs", data=form, headers=headers)
    assert refused.status_code == status
    assert not [run for run in (await board.get("/runs")).json() if run["id"] == "by-another-site"]
    if "Host" in headers:
        assert (await board.get("/runs", headers=headers)).status_code == status


async def test_pages_let_nothing_run_but_their_own_script(board: httpx.AsyncClient) -> None:
    page = await board.get("/runs", headers=PAGE)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert (await board.get("/static/board.js")).status_code == 200
    assert (await board.get("/static/../app.py")).status_code == 404


async def test_a_token_gives_the_right_that_it_names(runs: Runs, served: Served) -> None:
    board = await served("ann=steer:first-secret bob=answer(judge):second-secret tv=look:third-secret")
    ann, bob, tv = ({"Authorization": f"Bearer {which}-secret"} for which in ("first", "second", "third"))
    assert (await board.get("/runs")).status_code == 401
    assert (await board.get("/runs", headers={"Authorization": "Bearer none-at-all"})).status_code == 401
    assert (await board.get("/runs", headers=tv)).status_code == 200
    async with runs.serving(*COUNCIL):
        run = await runs.start(decide_and_produce, PLAN)
        board.headers.update(ann)
        question = await asked(board, run.id, "Owner.decide")
        given = {"question": question["id"], "answer": {"verdict": "stop", "pages": 1}}
        for who in (tv, bob):
            assert (await board.post(f"/runs/{run.id}/answers", json=given, headers=who)).status_code == 403
        assert (await board.post(f"/runs/{run.id}/cancel", headers=bob)).status_code == 403
        page = (await board.get(f"/runs/{run.id}", headers={**PAGE, **bob})).text
        assert "Shall Roses be printed?" in page
        assert "<form" not in page
        assert (await board.post(f"/runs/{run.id}/answers", json=given, headers=ann)).status_code == 200


async def test_a_token_in_the_address_is_kept_by_the_browser_and_not_shown(served: Served) -> None:
    board = await served("ann=steer:first-secret")
    welcome = await board.get("/runs", params={"token": "first-secret"})
    assert (welcome.status_code, welcome.headers["location"]) == (303, "/runs")
    cookie = welcome.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert (await board.get("/runs")).status_code == 200
    assert (await board.get("/runs", params={"token": "wrong-secret"})).status_code == 401


@pytest.mark.parametrize("path", ["/runs/nowhere", "/runs/nowhere/calls", "/runs/nowhere/transcripts/coder-1"])
async def test_what_is_not_there_is_said_on_a_page_and_in_json(board: httpx.AsyncClient, path: str) -> None:
    missing = await board.get(path)
    assert (missing.status_code, "there is no such run" in missing.json()["error"]) == (404, True)
    page = await board.get(path, headers=PAGE)
    assert (page.status_code, "there is no such run" in page.text) == (404, True)


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b"\xff", b'{"choreography": ""}', b'{"choreography": "x", "y": 1}', b"9" * 2_000_000]
)
async def test_junk_is_refused(board: httpx.AsyncClient, body: bytes) -> None:
    refused = await board.post("/runs", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code in (400, 413)
    assert refused.json()["error"]


async def test_the_document_describes_what_is_answered(runs: Runs, board: httpx.AsyncClient) -> None:
    document = (await board.get("/openapi.json")).json()

    def check(answer: httpx.Response, path: str) -> None:
        operation = document["paths"][path][answer.request.method.lower()]
        status = str(answer.status_code) if str(answer.status_code) in operation["responses"] else "default"
        schema = operation["responses"][status]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": document["components"]})

    async with runs.serving(*COUNCIL):
        run = await runs.start(decide_once, PLAN)
        question = await asked(board, run.id, "Owner.decide")
        check(await board.get(f"/runs/{run.id}"), "/runs/{id}")
        check(await board.post(f"/runs/{run.id}/answers", json={"question": "?", "answer": 1}), "/runs/{id}/answers")
        given = {"question": question["id"], "answer": {"verdict": "go", "pages": 3}}
        check(await board.post(f"/runs/{run.id}/answers", json=given), "/runs/{id}/answers")
        await run.result()
    check(await board.get(f"/runs/{run.id}"), "/runs/{id}")
    check(await board.get(f"/runs/{run.id}/calls"), "/runs/{id}/calls")
    check(await board.get("/runs"), "/runs")
    check(await board.get("/runs/nowhere"), "/runs/{id}")


async def test_a_page_that_is_open_is_told_what_changes_until_the_end(runs: Runs, board: httpx.AsyncClient) -> None:
    async with runs.serving(*COUNCIL):
        run = await runs.start(decide_once, PLAN)
        question = await asked(board, run.id, "Owner.decide")
        given = {"question": question["id"], "answer": {"verdict": "go", "pages": 3}}
        seen: list[tuple[str, str]] = []
        async with board.stream("GET", f"/runs/{run.id}/live") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    seen.append((line.removeprefix("event: "), ""))
                elif line.startswith("data: ") and line != "data: ":
                    seen[-1] = (seen[-1][0], json.loads(line.removeprefix("data: ")))
                    if seen[-1][0] == "questions" and "Shall Roses be printed?" in seen[-1][1]:
                        await board.post(f"/runs/{run.id}/answers", json=given)
        assert seen[-1][0] == "over"
        assert "done" in [html for name, html in seen if name == "now"][-1]
        assert "Shall" not in [html for name, html in seen if name == "questions"][-1]


async def test_what_a_model_is_saying_is_shown_while_it_speaks(
    runs: Runs, board: httpx.AsyncClient, provider: Provider
) -> None:
    provider.enqueue(Streamed(Text("<b>It rained all day.</b> " * 100), seconds=0.05))
    async with runs.serving(*COUNCIL):
        run = await runs.start(produce_twice, "Roses")
        while "It rained all day." not in (await board.get(f"/runs/{run.id}")).json()["saying"].get("1", ""):
            await asyncio.sleep(0.2)
        page = (await board.get(f"/runs/{run.id}", headers=PAGE)).text
        assert "&lt;b&gt;It rained all day.&lt;/b&gt;" in page
        await run.cancel()


async def test_a_client_made_of_the_document_runs_a_run(runs: Runs, board: httpx.AsyncClient) -> None:
    client = await OpenAPI.load_async(f"{board.base_url}/openapi.json")
    async with runs.serving(*COUNCIL):
        run = await client._.start_run(data={"choreography": "decide_once", "inputs": [PLAN]})
        assert run.told == f"{run.id} has begun"
        while not (seen := await client._.get_run(parameters={"id": run.id})).questions:
            await asyncio.sleep(0.05)
        given = {"question": seen.questions[0].id, "answer": {"verdict": "go", "pages": 3}}
        done = await client._.post_answers(parameters={"id": run.id}, data=given)
        assert done.told == f"{given['question']} is answered"
        while not (seen := await client._.get_run(parameters={"id": run.id})).ended:
            await asyncio.sleep(0.05)
        calls = await client._.list_calls(parameters={"id": run.id})
    assert json.loads(seen.result) == {"verdict": "go", "pages": 3}
    assert [(call.instance, call.outcome) for call in calls] == [("owner-1", "done")]
