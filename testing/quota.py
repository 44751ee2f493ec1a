"""What a provider takes in a minute, refused beyond, and told in headers as OpenAI does."""

from __future__ import annotations

import threading
import time
from collections import deque


class Quota:
    """So many requests and tokens in any window of a minute, be it a short one.

    Attributes:
        requests: The most requests.
        tokens: The most tokens, of prompts and completions.
        seconds: How long a minute is.
        told: Whether headers tell it.
        taken: When requests were taken.
        refused: When requests were refused.
        used: Tokens, and when.
    """

    def __init__(self, requests: int, tokens: int, *, seconds: float = 60.0, told: bool = True) -> None:
        self.requests, self.tokens, self.seconds, self.told = requests, tokens, seconds, told
        self.taken: list[float] = []
        self.refused: list[float] = []
        self.used: list[tuple[float, int]] = []
        self._lately: deque[float] = deque()
        self._used_lately: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def refuses(self) -> float | None:
        """Take a request, or return the seconds after which one will be taken."""
        now = time.monotonic()
        with self._lock:
            requests, tokens = self._left(now)
            if requests >= 1 and tokens > 0:
                self._lately.append(now)
                self.taken.append(now)
                return None
            self.refused.append(now)
            return self._until_some_is_left(now)

    def use(self, tokens: int) -> None:
        """Count what a request has used."""
        now = time.monotonic()
        with self._lock:
            self._used_lately.append((now, tokens))
            self.used.append((now, tokens))

    def headers(self) -> dict[str, str]:
        """Return what is told with a response."""
        if not self.told:
            return {}
        now = time.monotonic()
        with self._lock:
            requests, tokens = self._left(now)
            in_a_minute = 60 / self.seconds
            return {
                "x-ratelimit-limit-requests": str(round(self.requests * in_a_minute)),
                "x-ratelimit-limit-tokens": str(round(self.tokens * in_a_minute)),
                "x-ratelimit-remaining-requests": str(round(max(requests, 0) * in_a_minute)),
                "x-ratelimit-remaining-tokens": str(round(max(tokens, 0) * in_a_minute)),
                "x-ratelimit-reset-requests": self._reset(1 - requests / self.requests),
                "x-ratelimit-reset-tokens": self._reset(1 - tokens / self.tokens),
            }

    def _reset(self, used: float) -> str:
        return f"{self.seconds * used:.3f}s"

    def _left(self, now: float) -> tuple[int, int]:
        while self._lately and self._lately[0] <= now - self.seconds:
            self._lately.popleft()
        while self._used_lately and self._used_lately[0][0] <= now - self.seconds:
            self._used_lately.popleft()
        used = sum(tokens for _, tokens in self._used_lately)
        return self.requests - len(self._lately), self.tokens - used

    def _until_some_is_left(self, now: float) -> float:
        oldest = [*self._lately, *(at for at, _ in self._used_lately)]
        return max(min(oldest, default=now) + self.seconds - now, 0.05)
