"""core.ports.RateLimiter: token buckets, told by a clock that the tests turn."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.ports import RateLimiter
from storage import rate_limits
from storage.rate_limits import LocalRateLimiter

NOW = timedelta(0)


class Hand:
    """A clock's hand."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def limiter(hand: Hand) -> RateLimiter:
    return LocalRateLimiter(hand)


async def test_a_full_bucket_gives_its_burst_at_once_and_then_keeps_pace(limiter: RateLimiter) -> None:
    waits = [(await limiter.reserve("k", rate=2.0, burst=3)).total_seconds() for _ in range(6)]
    assert waits == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5])


async def test_reserved_tokens_are_spent_when_their_time_comes(limiter: RateLimiter, hand: Hand) -> None:
    for _ in range(6):
        await limiter.reserve("k", rate=2.0, burst=3)
    hand.seconds += 1.5
    assert (await limiter.reserve("k", 2.0, 3)).total_seconds() == pytest.approx(0.5)


async def test_an_idle_bucket_fills_to_its_burst_and_no_further(limiter: RateLimiter, hand: Hand) -> None:
    for _ in range(3):
        await limiter.reserve("k", rate=1.0, burst=3)
    hand.seconds += 1_000
    assert [await limiter.try_take("k", 1.0, 3) for _ in range(3)] == [None, None, None]
    refused = await limiter.try_take("k", 1.0, 3)
    assert refused is not None
    assert refused.total_seconds() == pytest.approx(1.0)


async def test_a_refused_token_costs_nothing(limiter: RateLimiter, hand: Hand) -> None:
    assert await limiter.try_take("k", rate=0.5, burst=1) is None
    for _ in range(50):
        refused = await limiter.try_take("k", rate=0.5, burst=1)
        assert refused is not None
        assert refused.total_seconds() == pytest.approx(2.0)
    hand.seconds += 2.0
    assert await limiter.try_take("k", rate=0.5, burst=1) is None


async def test_keys_do_not_share_a_bucket(limiter: RateLimiter) -> None:
    assert await limiter.try_take("a", rate=1.0, burst=1) is None
    assert await limiter.try_take("a", rate=1.0, burst=1) is not None
    assert await limiter.try_take("b", rate=1.0, burst=1) is None


async def test_the_keys_used_least_recently_are_forgotten(
    limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "KEYS_LIMIT", 2)
    for key in ("a", "b", "a", "c"):
        await limiter.reserve(key, rate=0.001, burst=1)
    assert await limiter.try_take("a", 0.001, 1) is not None
    assert await limiter.try_take("b", 0.001, 1) is None


async def test_what_was_taken_before_a_restart_counts(limiter: RateLimiter) -> None:
    for ago in (0.5, 0.25, 0.0):
        await limiter.recall("k", 1.0, timedelta(seconds=ago))
    refused = await limiter.try_take("k", rate=1.0, burst=3)
    assert refused is not None
    assert refused.total_seconds() == pytest.approx(0.5)
    assert await limiter.try_take("other", rate=1.0, burst=1) is None


async def test_what_was_taken_long_ago_is_refilled(limiter: RateLimiter) -> None:
    for ago in (60.0, 59.0, 3.0):
        await limiter.recall("k", 1.0, timedelta(seconds=ago))
    assert [await limiter.try_take("k", 1.0, 3) for _ in range(3)] == [None, None, None]
    assert await limiter.try_take("k", 1.0, 3) is not None


@given(
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=30),
    idle=st.floats(0, 5),
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 20),
)
async def test_a_restart_changes_nothing(gaps: list[float], idle: float, rate: float, burst: int) -> None:
    """Told when its tokens were taken, a new limiter gives the next one at the same time as the old."""
    hand = Hand()
    before, taken = LocalRateLimiter(hand), []
    for gap in gaps:
        hand.seconds += gap
        if await before.try_take("k", rate, burst) is None:
            taken.append(hand.seconds)
    hand.seconds += idle
    after = LocalRateLimiter(hand)
    for at in taken:
        await after.recall("k", rate, timedelta(seconds=hand.seconds - at))
    waits = [(await one.reserve("k", rate, burst)).total_seconds() for one in (before, after)]
    assert waits[0] == pytest.approx(waits[1], abs=1e-3)


@example(steps=[0.0], rate=1.25, burst=1)
@given(
    steps=st.lists(st.floats(0, 5), min_size=1, max_size=60),
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 20),
)
async def test_never_more_than_burst_and_rate_allow(steps: list[float], rate: float, burst: int) -> None:
    """Over any span of time: at most the burst and what the rate refills meanwhile."""
    hand = Hand()
    limiter = LocalRateLimiter(hand)
    taken: list[float] = []
    for step in steps:
        hand.seconds += step
        if await limiter.try_take("k", rate, burst) is None:
            taken.append(hand.seconds)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - taken[first]) * rate + 1e-3
    hand.seconds += burst / rate + 1e-6
    assert await limiter.try_take("k", rate, burst) is None
