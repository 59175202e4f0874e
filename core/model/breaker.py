"""A circuit breaker: an endpoint that keeps failing is left alone for a while.

See M. Nygard, Release It!, "Circuit Breaker". Half open, one call at a time goes through as a probe.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerRule:
    failures: int = 5
    """In a row, until it opens."""
    first_rest_seconds: float = 5.0
    longest_rest_seconds: float = 120.0
    """Each failed probe doubles the rest, up to this."""


class Breaker:
    def __init__(
        self, rule: BreakerRule = BreakerRule(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rule = rule
        self._clock = clock
        self._failures = 0
        self._opened = 0
        """How often it has opened without a success in between."""
        self._rests_until: float | None = None
        self._probing = False

    @property
    def state(self) -> BreakerState:
        if self._rests_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._rests_until else BreakerState.HALF_OPEN

    @property
    def lets_through(self) -> bool:
        """Whether a call made now would be let through."""
        return self.state is BreakerState.CLOSED or (
            self.state is BreakerState.HALF_OPEN and not self._probing
        )

    def enter(self) -> bool:
        """Ask to make a call; if True, `succeeded`, `failed` or `abandoned` must follow."""
        if not self.lets_through:
            return False
        self._probing = self.state is BreakerState.HALF_OPEN
        return True

    def succeeded(self) -> None:
        self._failures = self._opened = 0
        self._rests_until = None
        self._probing = False

    def abandoned(self) -> None:
        """The call was given up by the caller: it says nothing about the endpoint."""
        self._probing = False

    def failed(self, *, at_once: bool = False, rest_seconds: float | None = None) -> None:
        """`at_once`: one such failure is enough (a refused key); `rest_seconds`: what the endpoint asked for."""
        if self.state is BreakerState.OPEN:  # one of many that were under way when it opened
            assert self._rests_until is not None
            self._rests_until = max(self._rests_until, self._clock() + (rest_seconds or 0.0))
            return
        self._failures += 1
        if not (self._probing or at_once or rest_seconds or self._failures >= self._rule.failures):
            return
        self._opened += 1
        rest = min(
            self._rule.first_rest_seconds * 2 ** min(self._opened - 1, 16),
            self._rule.longest_rest_seconds,
        )
        self._rests_until = self._clock() + max(rest, rest_seconds or 0.0)
        self._probing = False
