"""Which messages are answered together, and when their turn may begin."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.settings import Settings
from core.burst import BurstRule, begin_at, next_turn
from core.messages import IncomingMessage, Platform
from core.ports import Pending
from core.settings import ConversationSettings

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
RULE = BurstRule(quiet_seconds=1.2, longest_seconds=6.0)


def waiting(number: int, at: float, *, alone: bool = False, text: str = "嗯") -> Pending:
    received = START + timedelta(seconds=at)
    message = IncomingMessage(Platform.TELEGRAM, f"e{number}", "chat", "person", text, received, alone=alone)
    return Pending(number, 1, received, message)


@st.composite
def bursts(draw: st.DrawFn) -> list[Pending]:
    gaps = draw(st.lists(st.tuples(st.floats(0, 30), st.booleans()), min_size=1, max_size=12))
    at, burst = 0.0, []
    for number, (gap, alone) in enumerate(gaps, start=1):
        at += gap
        burst.append(waiting(number, at, alone=alone))
    return burst


def seconds_until_turn(messages: Sequence[Pending], rule: BurstRule = RULE) -> float:
    return (begin_at(messages, rule) - START).total_seconds()


def test_the_turn_begins_after_a_quiet_while() -> None:
    assert seconds_until_turn([waiting(1, 0)]) == pytest.approx(1.2)
    assert seconds_until_turn([waiting(1, 0), waiting(2, 1.0)]) == pytest.approx(2.2)


def test_who_never_stops_typing_is_answered_after_the_longest_wait() -> None:
    typed = [waiting(number, number - 1.0) for number in range(1, 20)]
    assert seconds_until_turn(typed) == pytest.approx(6.0)


def test_zero_switches_the_waiting_off() -> None:
    off = BurstRule(quiet_seconds=0, longest_seconds=6.0)
    assert seconds_until_turn([waiting(1, 0), waiting(2, 0.5)], off) == 0.5


def test_a_message_that_stands_alone_never_waits_and_joins_no_other() -> None:
    first, alone, last = waiting(1, 0), waiting(2, 0.1, alone=True), waiting(3, 0.2)
    assert next_turn([first, alone, last]) == (first,)
    assert next_turn([alone, last]) == (alone,)
    assert next_turn([last]) == (last,)
    assert seconds_until_turn([alone]) == pytest.approx(0.1)


def test_nobody_in_danger_waits_behind_another_message() -> None:
    burst = [waiting(1, 0), waiting(2, 0.1, alone=True), waiting(3, 0.2, text="我不想活了"), waiting(4, 0.3)]
    assert next_turn(burst) == tuple(burst)
    assert next_turn(burst[:2]) == tuple(burst[:1])


def test_nothing_waiting_is_no_turn() -> None:
    assert next_turn([]) == ()


def test_a_conversation_may_have_times_of_its_own() -> None:
    assert RULE.of(ConversationSettings()) == RULE
    assert RULE.of(ConversationSettings(burst_quiet_seconds=0.0)) == BurstRule(0.0, 6.0)
    assert RULE.of(ConversationSettings(burst_max_seconds=20.0)) == BurstRule(1.2, 20.0)


def test_the_defaults_are_the_designs() -> None:
    settings = Settings()
    assert (settings.burst_quiet_seconds, settings.burst_max_seconds) == (1.2, 6.0)


@given(bursts())
def test_every_message_gets_into_one_turn_in_order(burst: list[Pending]) -> None:
    left, turns = list(burst), []
    while left:
        turn = next_turn(left)
        assert turn == tuple(left[: len(turn)]) and turn
        assert len(turn) == 1 or not any(pending.message.alone for pending in turn)
        turns.append(turn)
        left = left[len(turn) :]
    for turn, following in itertools.pairwise(turns):
        assert turn[0].message.alone or following[0].message.alone, "a turn takes all that belong together"


@given(bursts(), st.floats(0.01, 10), st.floats(0, 20))
def test_a_turn_waits_neither_too_long_nor_too_short(burst: list[Pending], quiet: float, more: float) -> None:
    turn = next_turn(burst)
    rule = BurstRule(quiet, quiet + more)
    begins = begin_at(turn, rule)
    if turn[0].message.alone:
        assert begins == turn[0].received_at
        return
    assert begins <= turn[0].received_at + timedelta(seconds=rule.longest_seconds)
    silence = begins - turn[-1].received_at
    late = begins == turn[0].received_at + timedelta(seconds=rule.longest_seconds)
    assert late or silence == timedelta(seconds=quiet)
