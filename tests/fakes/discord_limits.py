"""Rate limits as Discord keeps them, and trouble on demand: answers that fail, get lost or come late."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import Any

GLOBAL_A_SECOND = 50


@dataclass
class _Window:
    limit: int
    seconds: float
    ends: float = 0.0
    used: int = 0


@dataclass(frozen=True)
class Verdict:
    """What a request is told of its bucket; `retry_after` if there was no room in it."""

    headers: dict[str, str]
    retry_after: float | None = None
    is_global: bool = False


@dataclass
class RateLimits:
    rates: dict[str, tuple[int, float]]
    """How many requests in how many seconds, by route."""
    other: tuple[int, float] = (50, 1.0)
    global_rate: int = GLOBAL_A_SECOND
    _windows: dict[tuple[str, str], _Window] = field(default_factory=dict)
    _all: _Window = field(default_factory=lambda: _Window(GLOBAL_A_SECOND, 1.0))

    def ask(self, route: str, major: str, *, counts_globally: bool) -> Verdict:
        """`route`: method and pattern. `major`: the channel, server or webhook it is of."""
        now = time.monotonic()
        limit, seconds = self.rates.get(route, self.other)
        window = self._windows.setdefault((route, major), _Window(limit, seconds))
        if now >= window.ends:
            window.ends, window.used = now + window.seconds, 0
        self._all.limit = self.global_rate
        if now >= self._all.ends:
            self._all.ends, self._all.used = now + 1.0, 0
        if counts_globally and self._all.used >= self._all.limit:
            headers = {"X-RateLimit-Global": "true", "X-RateLimit-Scope": "global"}
            return Verdict(headers, max(self._all.ends - now, 0.001), is_global=True)
        if window.used >= window.limit:
            headers = {**_headers(route, window, now), "X-RateLimit-Scope": "user"}
            return Verdict(headers, max(window.ends - now, 0.001))
        window.used += 1
        self._all.used += counts_globally
        return Verdict(_headers(route, window, now))


def _headers(route: str, window: _Window, now: float) -> dict[str, str]:
    left = max(window.ends - now, 0.001)
    return {
        "X-RateLimit-Limit": str(window.limit),
        "X-RateLimit-Remaining": str(max(window.limit - window.used, 0)),
        "X-RateLimit-Reset": f"{time.time() + left:.3f}",
        "X-RateLimit-Reset-After": f"{left:.3f}",
        "X-RateLimit-Bucket": hashlib.md5(route.encode()).hexdigest(),
    }


@dataclass
class Failure:
    """`status` 0: the connection is closed instead of an answer."""

    method: str
    path: re.Pattern[str]
    status: int
    body: Any
    headers: dict[str, str]
    left: int
    after_effect: bool


@dataclass(frozen=True)
class Delay:
    method: str
    path: re.Pattern[str]
    seconds: float
    after_effect: bool


@dataclass
class Trouble:
    failures: list[Failure] = field(default_factory=list)
    delays: list[Delay] = field(default_factory=list)

    def failure(self, method: str, path: str) -> Failure | None:
        for failure in self.failures:
            if _fits(failure.method, failure.path, method, path):
                failure.left -= 1
                if failure.left <= 0:
                    self.failures.remove(failure)
                return failure
        return None

    def delay(self, method: str, path: str, *, after_effect: bool = False) -> float:
        return sum(
            delay.seconds
            for delay in self.delays
            if delay.after_effect is after_effect and _fits(delay.method, delay.path, method, path)
        )


def _fits(wanted: str, regex: re.Pattern[str], method: str, path: str) -> bool:
    return wanted in ("*", method) and regex.search(path) is not None
