"""Who may come to the board, and what each may do there.

A page that is open in the same browser must not act through it, and no name that somebody points at this machine may
reach it: so a request must name a host that is known, and one that changes something must come from the board itself.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

from starlette.requests import Request

from activities.errors import SettingInvalid

Right = Literal["look", "answer", "steer"]
"""What somebody may do: each may do what those before it may."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
COOKIE = "board"
TOKENS = "BOARD_TOKENS"

_TOKEN = re.compile(r"(?P<name>[\w.-]+)=(?P<right>look|answer|steer)(?:\((?P<persons>[\w., -]+)\))?:(?P<secret>\S{8,})")


class Refused(Exception):
    """A request is not done; says why, with an HTTP status.

    Attributes:
        places: What is wrong with which part of an answer, where it is about that.
    """

    def __init__(self, status: int, why: str, places: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.places = dict(places or {})


@dataclass(frozen=True)
class Visitor:
    """Who asks.

    Attributes:
        name: As the token says; empty where there are no tokens.
        right: What it may do.
        persons: For which persons it may answer, roles or instances; all where none is named.
    """

    name: str
    right: Right
    persons: frozenset[str] = frozenset()

    def may(self, right: Right) -> bool:
        """Whether it may do something."""
        rights = get_args(Right)
        return rights.index(self.right) >= rights.index(right)

    def may_answer(self, person: str) -> bool:
        """Whether it may answer what a person is asked: by its instance, `owner-1`, or its role, `owner`."""
        return self.may("answer") and (not self.persons or bool({person, person.rpartition("-")[0]} & self.persons))


@dataclass(frozen=True)
class Access:
    """Who may come.

    Attributes:
        hosts: By which names the board may be reached.
        visitors: By their tokens; where there are none, whoever reaches it may do everything.
    """

    hosts: frozenset[str]
    visitors: tuple[tuple[str, Visitor], ...] = ()

    @classmethod
    def read(cls, host: str, names: Sequence[str], tokens: str) -> Access:
        """Make it of settings.

        Args:
            host: Where the board listens.
            names: By which other names it is reached.
            tokens: `NAME=RIGHT:TOKEN`, several with commas; `NAME=answer(owner):TOKEN` answers for that person only.

        Raises:
            SettingInvalid: They can't be read, or there are none although others than this machine may reach it.
        """
        visitors: list[tuple[str, Visitor]] = []
        for word in filter(None, (part.strip() for part in re.split(r",(?![^(]*\))|\s+", tokens))):
            match = _TOKEN.fullmatch(word)
            if not match:
                raise SettingInvalid(
                    f"{TOKENS} has an entry that can't be read, the {len(visitors) + 1}. of them. Write "
                    "NAME=RIGHT:TOKEN with look, answer or steer as the right, and a token of 8 characters or more."
                )
            persons = frozenset(filter(None, re.split(r"[, ]+", match["persons"] or "")))
            right: Right = match["right"]  # type: ignore[assignment]
            visitors.append((match["secret"], Visitor(match["name"], right, persons)))
        if host not in LOOPBACK and not visitors:
            raise SettingInvalid(
                f"Whoever reaches {host} could steer all runs. Set {TOKENS}='me=steer:…' (python -c 'import secrets; "
                "print(secrets.token_urlsafe())' makes one), or let the board listen on 127.0.0.1."
            )
        return cls(LOOPBACK | {host, *names}, tuple(visitors))

    def visitor(self, request: Request) -> Visitor:
        """Return who asks.

        Raises:
            Refused: Nobody who may come.
        """
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        if host not in self.hosts:
            raise Refused(421, f"the board is not known as '{host}'; start it with --name {host} if that is meant.")
        if request.method not in ("GET", "HEAD"):
            _check_origin(request)
        if not self.visitors:
            return Visitor("", "steer")
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")
        return self.known(given)

    def known(self, token: str) -> Visitor:
        """Return whose token it is.

        Raises:
            Refused: Nobody's.
        """
        found = [who for secret, who in self.visitors if hmac.compare_digest(secret.encode(), token.encode())]
        if not found:
            raise Refused(401, "a token is needed: open the address with ?token=… once, or send it as a Bearer token.")
        return found[0]


def _check_origin(request: Request) -> None:
    """Refuse what another site's page sends; a program that is no browser names no origin."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    is_own = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not is_own or site not in (None, "same-origin", "none"):
        raise Refused(403, "this was sent by another site's page, and is not done.")
