"""The circuit breaker, moved through its states by a clock that the test holds."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.breaker import Breaker, BreakerRule, BreakerState

RULE = BreakerRule(failures=3, first_rest_seconds=5.0, longest_rest_seconds=20.0)


@dataclass
class Watch:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def breaker(watch: Watch) -> Breaker:
    return Breaker(RULE, watch)


def state_of(breaker: Breaker) -> BreakerState:
    return breaker.state


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.enter()
        breaker.failed()


def test_it_opens_after_failures_in_a_row_only(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert breaker.enter()
    breaker.succeeded()
    fail(breaker, 2)
    assert state_of(breaker) is BreakerState.CLOSED and breaker.lets_through
    fail(breaker)
    assert state_of(breaker) is BreakerState.OPEN
    assert not breaker.lets_through and not breaker.enter()


def test_after_its_rest_one_call_at_a_time_probes(breaker: Breaker, watch: Watch) -> None:
    fail(breaker, 3)
    watch.now += 4.99
    assert not breaker.enter()
    watch.now += 0.01
    assert state_of(breaker) is BreakerState.HALF_OPEN and breaker.lets_through
    assert breaker.enter()
    assert not breaker.lets_through and not breaker.enter()
    breaker.succeeded()
    assert state_of(breaker) is BreakerState.CLOSED
    assert breaker.enter() and breaker.enter()


def test_each_failed_probe_doubles_the_rest_up_to_a_limit(breaker: Breaker, watch: Watch) -> None:
    fail(breaker, 3)
    for rest in (5.0, 10.0, 20.0, 20.0):
        watch.now += rest - 0.01
        assert state_of(breaker) is BreakerState.OPEN
        watch.now += 0.01
        fail(breaker)
    watch.now += 20.0
    assert breaker.enter()
    breaker.succeeded()
    fail(breaker, 3)
    watch.now += 5.0
    assert state_of(breaker) is BreakerState.HALF_OPEN, "a success begins the doubling afresh"


def test_a_call_given_up_says_nothing(breaker: Breaker, watch: Watch) -> None:
    for _ in range(10):
        assert breaker.enter()
        breaker.abandoned()
    assert state_of(breaker) is BreakerState.CLOSED
    fail(breaker, 3)
    watch.now += 5.0
    assert breaker.enter()
    breaker.abandoned()
    assert state_of(breaker) is BreakerState.HALF_OPEN and breaker.enter(), "the next one probes"


def test_a_refused_key_opens_it_at_once(breaker: Breaker) -> None:
    assert breaker.enter()
    breaker.failed(at_once=True)
    assert state_of(breaker) is BreakerState.OPEN


def test_it_rests_as_long_as_the_endpoint_asks(breaker: Breaker, watch: Watch) -> None:
    assert breaker.enter()
    breaker.failed(rest_seconds=60.0)
    watch.now += 59.9
    assert state_of(breaker) is BreakerState.OPEN
    watch.now += 0.1
    assert state_of(breaker) is BreakerState.HALF_OPEN


def test_those_under_way_when_it_opened_do_not_lengthen_the_rest(breaker: Breaker, watch: Watch) -> None:
    entered = [breaker.enter() for _ in range(50)]
    assert all(entered)
    for _ in entered:
        breaker.failed()
    watch.now += 5.0
    assert state_of(breaker) is BreakerState.HALF_OPEN
    fail(breaker)
    watch.now += 10.0
    assert state_of(breaker) is BreakerState.HALF_OPEN, "the second rest, not the fiftieth"


@given(st.lists(st.sampled_from(["enter", "succeed", "fail", "abandon", "wait"]), max_size=60))
def test_whatever_happens_it_lets_a_call_through_within_the_longest_rest(steps: list[str]) -> None:
    watch = Watch()
    breaker, under_way = Breaker(RULE, watch), 0
    for step in steps:
        if step == "wait":
            watch.now += 1.7
        elif step == "enter":
            expected = breaker.lets_through
            assert breaker.enter() is expected
            under_way += expected
        elif under_way:
            under_way -= 1
            {"succeed": breaker.succeeded, "fail": breaker.failed, "abandon": breaker.abandoned}[step]()
    for _ in range(under_way):
        breaker.abandoned()
    watch.now += RULE.longest_rest_seconds
    assert breaker.enter()
