"""Which waiting messages make up the next turn, and when it may begin.

People type in bursts. A turn waits until nothing has come for `quiet_seconds`, at most
`longest_seconds` after its first message; 0 switches the waiting off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from core.ports import Pending
from core.safety.rules import Risk, risk_of
from core.settings import ConversationSettings

BUNDLE_QUIET_SECONDS = 0.8
BUNDLE_MAX_SECONDS = 3.0


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

    Where one of them says that its writer is in danger, all of that person's: they wait for nobody's answer.
    """
    in_danger = {waiting.message.sender_id for waiting in pending if _dangerous(waiting)}
    if in_danger:
        return tuple(
            waiting
            for waiting in pending
            if waiting.message.sender_id in in_danger
            and (waiting.message.command is None or _dangerous(waiting))
        )
    if pending and pending[0].message.alone:
        return (pending[0],)
    return tuple(takewhile(lambda waiting: _goes_with(pending[0], waiting), pending))


def _goes_with(first: Pending, other: Pending) -> bool:
    """In a group each person is answered by themselves: whose words a reply answers, theirs it is."""
    return not other.message.alone and other.message.sender_id == first.message.sender_id


def joins(messages: Sequence[Pending], pending: Sequence[Pending], news: Sequence[Pending]) -> bool:
    """Whether what came since would be part of the turn of `messages`, which were taken from `pending`."""
    if len(messages) < len(pending) or messages[0].message.alone:
        return False
    return _goes_with(messages[0], news[0])


def _dangerous(waiting: Pending) -> bool:
    return risk_of(waiting.message) is Risk.HIGH


def begin_at(messages: Sequence[Pending], rule: BurstRule) -> datetime:
    """When the turn of these messages may ask the model."""
    first, last = messages[0].received_at, messages[-1].received_at
    if messages[0].message.alone:
        return last
    if messages[-1].message.bundle is not None:  # the parts of an album come one by one
        quiet, longest = (
            max(rule.quiet_seconds, BUNDLE_QUIET_SECONDS),
            max(rule.longest_seconds, BUNDLE_MAX_SECONDS),
        )
    elif rule.quiet_seconds <= 0:
        return last
    else:
        quiet, longest = rule.quiet_seconds, rule.longest_seconds
    return min(last + timedelta(seconds=quiet), first + timedelta(seconds=longest))
