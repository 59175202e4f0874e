"""Which waiting messages make up the next turn, and when it may begin.

People type in bursts. A turn waits until nothing has come for `quiet_seconds`, at most
`longest_seconds` after its first message; 0 switches the waiting off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from core.ports import ConversationSettings, Pending
from core.safety.rules import Risk, assess


@dataclass(frozen=True, slots=True)
class BurstRule:
    quiet_seconds: float
    longest_seconds: float

    def of(self, settings: ConversationSettings) -> BurstRule:
        """This rule with what the conversation has set for itself."""
        quiet, longest = settings.burst_quiet_seconds, settings.burst_max_seconds
        return BurstRule(
            self.quiet_seconds if quiet is None else quiet,
            self.longest_seconds if longest is None else longest,
        )


def next_turn(pending: Sequence[Pending]) -> tuple[Pending, ...]:
    """The messages that are answered together: one that stands alone, or all up to the next such.

    Where one of them says that its writer is in danger, all of them: nobody waits for an answer before that one.
    """
    if any(assess(waiting.message.text) is Risk.HIGH for waiting in pending):
        return tuple(pending)
    if pending and pending[0].message.alone:
        return (pending[0],)
    return tuple(takewhile(lambda waiting: not waiting.message.alone, pending))


def begin_at(messages: Sequence[Pending], rule: BurstRule) -> datetime:
    """When the turn of these messages may ask the model."""
    first, last = messages[0].received_at, messages[-1].received_at
    if messages[0].message.alone or rule.quiet_seconds <= 0:
        return last
    return min(
        last + timedelta(seconds=rule.quiet_seconds),
        first + timedelta(seconds=rule.longest_seconds),
    )
