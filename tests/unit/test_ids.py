"""Ids: unique, in the order in which they were made, and comparable with times."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import first_id_at, moment_of, new_id

MOMENTS = st.datetimes(datetime(2025, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def test_each_is_greater_than_the_one_before() -> None:
    made = [new_id() for _ in range(20_000)]
    assert all(a < b for a, b in itertools.pairwise(made))
    assert made[0] > 0 and made[-1] < 2**63


def test_threads_never_make_the_same() -> None:
    begin = threading.Barrier(8)

    def make() -> list[int]:
        begin.wait()
        return [new_id() for _ in range(2_000)]

    with ThreadPoolExecutor(8) as threads:
        made = [each.result() for each in [threads.submit(make) for _ in range(8)]]
    assert len(set(itertools.chain(*made))) == 16_000
    assert all(some == sorted(some) for some in made)


def test_a_clock_that_steps_back_changes_nothing_of_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id()
    earlier = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: earlier)
    after = [new_id() for _ in range(10)]
    assert [before, *after] == sorted({before, *after})


def test_an_id_tells_when_it_was_made() -> None:
    before = datetime.now(UTC)
    made = new_id()
    assert before - timedelta(seconds=1) <= moment_of(made) <= datetime.now(UTC) + timedelta(seconds=1)


@given(MOMENTS)
def test_ids_compare_with_times(moment: datetime) -> None:
    first = first_id_at(moment)
    assert 0 <= first < 2**63
    assert moment - timedelta(milliseconds=1) < moment_of(first) <= moment
    assert first_id_at(moment_of(first)) == first
    assert first_id_at(moment + timedelta(milliseconds=1)) > first


@given(st.integers(0, 2**63 - 1))
def test_an_id_is_not_before_its_own_moment(id_: int) -> None:
    assert first_id_at(moment_of(id_)) <= id_ < first_id_at(moment_of(id_) + timedelta(milliseconds=1))


def test_times_before_the_first_id_are_zero() -> None:
    assert first_id_at(datetime(1970, 1, 1, tzinfo=UTC)) == 0
