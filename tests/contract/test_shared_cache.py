"""core.ports.SharedCache: within one process, and between processes over a real Redis that may go away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from core.ports import SharedCache
from storage import shared_cache
from storage.shared_cache import LocalCache, RedisCache
from tests.services import RedisServer

LONG = timedelta(hours=1)
SHORT = timedelta(milliseconds=30)
SOON = 20.0
NOT_LONG = 4 * RedisCache.ANSWER_SECONDS
"""A call of a cache whose Redis is away: a webhook waits for it."""


class Hand:
    """A clock's hand."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def url(redis: RedisServer) -> str:
    """A Redis database of the test's own."""
    return redis.fresh_database()


@pytest.fixture
async def connect(redis: RedisServer, url: str) -> AsyncIterator[Callable[[], RedisCache]]:
    """Caches as processes have them, all over one Redis database."""
    async with AsyncExitStack() as stack:

        def connected() -> RedisCache:
            cache = RedisCache(Redis.from_url(url))
            stack.push_async_callback(cache.close)
            return cache

        yield connected
    redis.start()


@pytest.fixture(params=["local", "redis"])
def cache(request: pytest.FixtureRequest) -> SharedCache:
    if request.param == "local":
        return LocalCache()
    connect: Callable[[], RedisCache] = request.getfixturevalue("connect")
    return connect()


async def gone(cache: SharedCache, key: str) -> None:
    """Wait until a value's time is over."""
    async with asyncio.timeout(SOON):
        while await cache.get(key) is not None:
            await asyncio.sleep(0.005)


# --- both alike -----------------------------------------------------------------------------------


async def test_what_was_put_is_got_until_another_is_put(cache: SharedCache) -> None:
    assert await cache.get("k") is None
    for value in ("一", "1764000000 令牌_a-b|c", "v" * 10_000):
        await cache.put("k", value, LONG)
        assert await cache.get("k") == value
    assert await cache.get("K") is None and await cache.get("k ") is None


async def test_a_value_ends_with_its_time(cache: SharedCache) -> None:
    await cache.put("short", "v", SHORT)
    await cache.put("long", "v", LONG)
    await gone(cache, "short")
    assert await cache.get("long") == "v"
    assert await cache.add("short", "another", LONG) == "another", "its place is free again"


async def test_a_new_value_has_a_time_of_its_own(cache: SharedCache) -> None:
    await cache.put("k", "old", SHORT)
    await cache.put("other", "v", SHORT)
    await cache.put("k", "new", LONG)
    await gone(cache, "other")
    assert await cache.get("k") == "new"


async def test_no_time_at_all_is_over_at_once(cache: SharedCache) -> None:
    await cache.put("k", "v", timedelta())
    await gone(cache, "k")


async def test_only_the_first_to_add_is_kept(cache: SharedCache) -> None:
    assert await cache.add("k", "first", LONG) == "first"
    assert await cache.add("k", "second", LONG) == "first"
    assert await cache.add("k", "first", LONG) == "first", "said again it is the same"
    assert await cache.get("k") == "first"
    await cache.put("k", "put", LONG)
    assert await cache.add("k", "third", LONG) == "put"


async def test_what_was_added_does_not_live_longer_for_being_asked_again(cache: SharedCache) -> None:
    await cache.add("k", "first", SHORT)
    await cache.add("k", "second", LONG)
    await gone(cache, "k")


async def test_a_value_is_removed_only_if_it_is_still_that_one(cache: SharedCache) -> None:
    await cache.put("k", "mine", LONG)
    await cache.remove("k", "another's")
    assert await cache.get("k") == "mine"
    await cache.remove("k", "mine")
    assert await cache.get("k") is None
    await cache.remove("k", "mine")
    await cache.remove("never", "v")
    assert await cache.add("k", "next", LONG) == "next"


async def test_of_many_who_add_at_once_one_wins(cache: SharedCache) -> None:
    stood = await asyncio.gather(*(cache.add("lock", str(number), LONG) for number in range(50)))
    assert len(set(stood)) == 1
    assert await cache.get("lock") == stood[0]


# --- in one process -------------------------------------------------------------------------------


async def test_in_one_process_time_is_the_clocks() -> None:
    hand = Hand()
    cache = LocalCache(hand)
    await cache.put("k", "v", timedelta(seconds=10))
    hand.seconds += 9.9
    assert await cache.get("k") == "v"
    hand.seconds += 0.1
    assert await cache.get("k") is None
    await cache.remove("k", "v")
    assert await cache.add("k", "w", timedelta(seconds=1)) == "w"


async def test_in_one_process_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_cache, "KEYS_LIMIT", 3)
    cache = LocalCache()
    for key in ("a", "b", "c", "a", "d"):
        await cache.put(key, key, LONG)
    assert [await cache.get(key) for key in "abcd"] == ["a", None, "c", "d"]
    await cache.add("e", "e", LONG)
    assert [await cache.get(key) for key in "acde"] == ["a", None, "d", "e"]


async def test_a_closed_one_has_nothing_left() -> None:
    cache = LocalCache()
    await cache.put("k", "v", LONG)
    await cache.close()
    assert await cache.get("k") is None


# --- over Redis -----------------------------------------------------------------------------------


async def test_processes_share_what_is_put(connect: Callable[[], RedisCache]) -> None:
    one, two = connect(), connect()
    await one.put("k", "v", LONG)
    assert await two.get("k") == "v"
    assert await two.add("k", "w", LONG) == "v"
    await two.put("k", "w", LONG)
    assert await one.get("k") == "w"
    await one.remove("k", "v")
    assert await two.get("k") == "w", "it was replaced meanwhile"
    await one.remove("k", "w")
    assert await two.get("k") is None and await one.get("k") is None


async def test_of_many_processes_one_wins(connect: Callable[[], RedisCache]) -> None:
    caches = [connect() for _ in range(8)]
    stood = await asyncio.gather(*(cache.add("lock", str(n), LONG) for n, cache in enumerate(caches)))
    assert len(set(stood)) == 1


async def test_other_users_of_the_redis_are_not_met(connect: Callable[[], RedisCache], url: str) -> None:
    cache = connect()
    async with Redis.from_url(url) as others:
        await others.set("k", "not ours")
        assert await cache.get("k") is None
        await cache.put("k", "ours", LONG)
        assert await others.get("k") == b"not ours"
        assert [key for key in await others.keys() if key != b"k"] == [b"xinyu:cache:k"]


async def test_something_else_under_its_name_is_nothing(connect: Callable[[], RedisCache], url: str) -> None:
    cache = connect()
    async with Redis.from_url(url) as others:
        await others.rpush("xinyu:cache:k", "a list")
        assert await cache.get("k") is None
        assert await cache.add("k", "v", LONG) == "v"
        await cache.remove("k", "v")


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_without_its_redis_each_process_goes_on_alone_and_quickly(
    connect: Callable[[], RedisCache], redis: RedisServer, how: str
) -> None:
    one, two = connect(), connect()
    await one.put("token", "t1", LONG)
    assert await two.get("token") == "t1"
    with capture_logs() as told:
        await asyncio.to_thread(redis.kill if how == "killed" else redis.pause)
        began = time.monotonic()
        known, lock, _ = await asyncio.gather(
            one.get("token"), two.add("lock", "two", LONG), two.put("token", "t2", LONG)
        )
        assert time.monotonic() - began < NOT_LONG
        assert (known, lock) == ("t1", "two"), "who put it still has it"
        known, lock, never, others = await asyncio.gather(
            two.get("token"), two.add("lock", "another", LONG), one.get("never"), one.get("lock")
        )
        assert (known, lock, never, others) == ("t2", "two", None, None)
        await two.remove("lock", "two")
        assert await two.get("lock") is None
    assert [entry["reachable"] for entry in told] == [False, False], "each tells it once"
    await asyncio.to_thread(redis.start if how == "killed" else redis.resume)
    await shares_again(one, two)


async def shares_again(one: SharedCache, two: SharedCache) -> None:
    """Wait until what one puts reaches the other."""
    with capture_logs() as told:
        async with asyncio.timeout(SOON):
            number = 0
            while await two.get(f"again {number}") is None:
                number += 1
                await one.put(f"again {number}", "v", LONG)
            await one.get("token")
    assert [entry["reachable"] for entry in told] == [True, True]


async def test_a_redis_that_was_never_there_hinders_nobody() -> None:
    cache = RedisCache(Redis.from_url("redis://127.0.0.1:1/0"))
    assert await cache.get("k") is None
    assert await cache.add("k", "v", LONG) == "v"
    assert await cache.add("k", "w", LONG) == "v"
    await cache.remove("k", "v")
    await cache.put("k", "x", LONG)
    assert await cache.get("k") == "x"
    await cache.close()
