"""`python -m console watch textkit --follow coder-1`: what one instance says and does, while it does it, each once.

What it does now comes from the process that makes its call, and what it has done from its conversation, which has the
last word: what was missed, because nobody looked or a process died, comes from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from activities.contract.conversations import TranscriptPage
from activities.contract.names import conversation_id
from activities.contract.text import clip
from activities.memory.transcript import Entry, for_people
from console.looking import RPC_TIMEOUT
from console.said import Said, plain, said_of
from console.words import News, Overhearing, Reader

_SHOWN = 300
"""Characters of prompts, arguments and results that are shown."""

_LOOKED_EVERY_S = 2.0
"""Seconds between two looks into the conversation of an instance that does nothing."""


class Follower:
    """Follows an instance."""

    def __init__(self, client: Client, workflow_id: str, instance: str, write: Callable[[str], object]) -> None:
        """Begin to follow.

        Args:
            client: Temporal's client.
            workflow_id: The run.
            instance: Whom.
            write: Takes a text, which may be a part of a line.
        """
        self._hearing = Overhearing(client, workflow_id)
        self._reader = Reader(instance=instance)
        self._conversation = _Conversation(client, conversation_id(workflow_id, instance))
        self._instance = instance
        self._page = _Page(write)
        self._shown: dict[str, dict[int, Said]] = {}
        """What calls have said, by numbers: another attempt may say some of it again."""
        self._ahead: list[tuple[str, Said]] = []
        """What was shown before it was in the conversation, and of which call it is."""
        self._behind: list[Said] = []
        """What was shown from the conversation, and may still be heard from the process that has said it."""
        self._places: dict[str, int] = {}
        """Where in that calls are."""
        self._is_first = True
        self._looked = 0.0

    async def go_on(self, *, last: bool = False) -> None:
        """Write what is new.

        Args:
            last: Whether the run has ended, so that nothing more comes.
        """
        await self._hearing.listen()
        if self._is_first:
            await self._show_conversation()
            self._is_first = False
        ended = last
        for news in self._reader.news(self._hearing.calls):
            self._take(news)
            ended = ended or news.event == "ended"
        calls = [call for call in self._hearing.calls.values() if call.instance == self._instance]
        is_idle = all(call.state == "ended" for call in calls)  # else it is about to be told what it will find there
        if ended or (is_idle and time.monotonic() - self._looked > _LOOKED_EVERY_S):
            await self._show_conversation()

    def _take(self, news: News) -> None:
        shown = self._shown.setdefault(news.call, {})
        if news.event == "call":
            self._page.line(f"▸ {news.method} (step {news.step})")
        elif news.event == "again":
            self._page.begin_again()
            self._ahead = [(news.call, said) for number, said in shown.items() if number < (news.stand or 0)]
        elif news.event == "words" and news.kind == "text":
            self._page.words(news.text or "")
        elif news.said is not None and news.number is not None:
            known = shown.get(news.number) == news.said  # from an attempt that has died since
            shown[news.number] = news.said
            if self._comes_late(news.call, news.number, news.said):
                return
            self._ahead.append((news.call, news.said))
            if not known:
                self._page.said(news.said)

    def _comes_late(self, call: str, number: int, said: Said) -> bool:
        """Whether a call says what was shown from the conversation: it has ended since it was heard last."""
        if number == 0:
            self._places[call] = max(
                (at for at, one in enumerate(self._behind) if one == said), default=len(self._behind)
            )
        at = self._places.get(call, len(self._behind))
        if self._behind[at : at + 1] != [said]:
            self._places.pop(call, None)
            return False
        self._places[call] = at + 1
        return True

    async def _show_conversation(self) -> None:
        """Show what is in the conversation, but for what was shown before."""
        self._looked = time.monotonic()
        ended = {name for name, call in self._hearing.calls.items() if call.state == "ended"}
        if (new := await self._conversation.news()) is None:
            return
        self._behind, self._places = [], {}
        for said in new:
            for one in said.inside if said.who == "failed" else [said]:
                if not self._was_shown(one):
                    self._behind.append(one)
                    self._page.said(one)
            if said.who == "failed":
                self._page.line("· the call has failed; the agent will not remember it")
        self._ahead = [(call, said) for call, said in self._ahead if call not in ended]

    def _was_shown(self, said: Said) -> bool:
        at = next((at for at, (_, one) in enumerate(self._ahead) if one == said), None)
        if at is not None:
            del self._ahead[: at + 1]
        return at is not None


class _Conversation:
    """What is in an instance's conversation, as it grows."""

    def __init__(self, client: Client, workflow_id: str) -> None:
        self._client = client
        self._id = workflow_id
        self._life = ""
        self._next = 0

    async def news(self) -> list[Said] | None:
        """Return what was added since; None where it is not there, or nobody answers for it now."""
        try:
            described = await self._client.get_workflow_handle(self._id).describe(rpc_timeout=RPC_TIMEOUT)
            life = described.raw_description.workflow_execution_info.first_run_id
            if life != self._life:  # its run was reset, and it begins anew
                new = await self._added(0, whole=not self._life)
                self._life = life
            else:
                new = await self._added(self._next, whole=False)
        except (RPCError, WorkflowQueryFailedError):
            return None
        return [said_of(for_people(entry)) for entry in new]

    async def _added(self, after: int, *, whole: bool) -> list[Entry]:
        """Return the entries from a number on, of all runs in which it went on; or all, of earlier lives as well."""
        entries: list[Entry] = []
        run_id, number = None, None
        while True:
            part, first, earlier = await self._part(run_id, after)
            number = first + len(part) if number is None else number
            entries = [*part, *entries]
            if earlier is None or (first <= after and not whole):
                break
            run_id = earlier
        self._next = number
        return entries

    async def _part(self, run_id: str | None, after: int) -> tuple[list[Entry], int, str | None]:
        handle = self._client.get_workflow_handle(self._id, run_id=run_id)
        entries: list[Entry] = []
        first, next = None, after
        while True:
            page = await handle.query("transcript", next, result_type=TranscriptPage, rpc_timeout=RPC_TIMEOUT)
            first = page.first if first is None else first
            entries += [entry for entry in page.entries if entry.get("heard", True)]
            if page.next is None:
                return entries, first, page.earlier_run
            next = page.next


class _Page:
    """What is written, line by line; the last line may go on."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._words = ""
        """What was written of an answer that is coming."""
        self._again: str | None = None
        """What has come of it again, as another attempt is made at its call."""

    def line(self, text: str) -> None:
        """Write a line."""
        self._end()
        self._write(f"{text}\n")

    def words(self, text: str) -> None:
        """Write a piece of an answer; what comes again as it was is written once."""
        text = plain(text, len(text))
        if self._again is not None:
            self._again += text
            if self._words.startswith(self._again):
                return
            text, self._again = self._again, None
            if text.startswith(self._words):
                text = text[len(self._words) :]
            else:
                self.line("")
                self.line("↻ said otherwise, as the call is tried again:")
        self._write(text)
        self._words += text

    def begin_again(self) -> None:
        """Have what comes next take the place of the answer that is coming."""
        self._again = "" if self._words else None

    def said(self, said: Said) -> None:
        """Write something that was said whole; of an answer what was not written yet."""
        if said.who == "assistant":
            self._answer(said.text)
            for name, arguments in said.tools:
                self.line(f"⚙ {name} {_in_a_line(arguments)}")
        elif said.who == "tool":
            self.line(f"  = {_in_a_line(said.text)}")
        elif said.who == "user":
            self.line(f"» {_in_a_line(said.text)}")
        else:
            inside = f" ({len(said.inside)} entries inside)" if said.inside else ""
            self.line(f"· {said.who}: {_in_a_line(said.text)}{inside}")

    def _answer(self, text: str) -> None:
        if text.startswith(self._words):
            self._write(text[len(self._words) :])
            self._words = text
        elif text[:_SHOWN] != self._words[:_SHOWN]:  # else it is a long one, which is told in short
            self.line("")
            self._write(text)
            self._words = text
        self._again = None
        self._end()

    def _end(self) -> None:
        if self._words:
            self._write("\n")
        self._words, self._again = "", None


def _in_a_line(text: str) -> str:
    return clip(" ".join(text.split()), _SHOWN)
