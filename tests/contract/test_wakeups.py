"""core.ports.Wakeups: in one process, and between processes over a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from core.ports import Wakeups
from storage import wakeups as storage_wakeups
from storage.wakeups import LocalWakeups, RedisWakeups
from tests.services import RedisServer

SOON = 20.0


@pytest.fixture
async def connect(redis: RedisServer) -> AsyncIterator[Callable[[str], RedisWakeups]]:
    """Wake-ups as processes of these names have them, all over one Redis database."""
    url = redis.fresh_database()
    async with AsyncExitStack() as stack:

        def connected(consumer: str) -> RedisWakeups:
            wakeups = RedisWakeups(Redis.from_url(url), consumer)
            stack.push_async_callback(wakeups.close)
            return wakeups

        yield connected
    redis.start()


@pytest.fixture(params=["local", "redis"])
def wakeups(request: pytest.FixtureRequest) -> Wakeups:
    if request.param == "local":
        return LocalWakeups()
    connect: Callable[[str], RedisWakeups] = request.getfixturevalue("connect")
    return connect("one")


async def test_wake_ups_come_in_order(wakeups: Wakeups) -> None:
    for conversation_id in (3, 1, 2):
        await wakeups.wake(conversation_id)
    assert [await _next(wakeups) for _ in range(3)] == [3, 1, 2]


async def test_next_waits_for_a_wake_up(wakeups: Wakeups) -> None:
    waiting = asyncio.create_task(_next(wakeups))
    await asyncio.sleep(0)
    assert not waiting.done()
    await wakeups.wake(2**62)
    assert await waiting == 2**62


async def test_a_cancelled_next_takes_no_wake_up_along(wakeups: Wakeups) -> None:
    waiting = asyncio.create_task(wakeups.next())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await wakeups.wake(7)
    assert await _next(wakeups) == 7


async def test_a_conversation_may_wake_again_and_again(wakeups: Wakeups) -> None:
    for _ in range(3):
        await wakeups.wake(7)
        assert await _next(wakeups) == 7


async def test_in_one_process_the_same_wake_up_is_kept_once() -> None:
    wakeups = LocalWakeups()
    for conversation_id in (7, 8, 7, 7):
        await wakeups.wake(conversation_id)
    assert [await _next(wakeups) for _ in range(2)] == [7, 8]
    waiting = asyncio.create_task(_next(wakeups))
    await asyncio.sleep(0)
    assert not waiting.done()
    await wakeups.wake(9)
    assert await waiting == 9


async def test_wake_ups_beyond_the_limit_are_left_to_the_sweeper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_wakeups, "WAITING_LIMIT", 3)
    wakeups = LocalWakeups()
    for conversation_id in range(9):
        await wakeups.wake(conversation_id)
    assert [await _next(wakeups) for _ in range(3)] == [0, 1, 2]


async def test_each_wake_up_reaches_one_of_the_processes(connect: Callable[[str], RedisWakeups]) -> None:
    serving, workers = connect("serving"), [connect(f"worker {number}") for number in range(3)]
    reached: list[int] = []
    all_there = asyncio.Event()

    async def listen(worker: RedisWakeups) -> None:
        while True:
            reached.append(await worker.next())
            if len(reached) >= 300:
                all_there.set()

    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(listen(worker)) for worker in workers]
        for conversation_id in range(300):
            await serving.wake(conversation_id)
        async with asyncio.timeout(SOON):
            await all_there.wait()
        for task in listening:
            task.cancel()
    assert sorted(reached) == list(range(300))


async def test_wake_ups_of_before_the_first_worker_are_not_lost(
    connect: Callable[[str], RedisWakeups],
) -> None:
    await connect("serving").wake(7)
    assert await _next(connect("worker")) == 7


async def test_a_redis_that_is_away_holds_nobody_up_and_is_used_again(
    connect: Callable[[str], RedisWakeups], redis: RedisServer
) -> None:
    serving, worker = connect("serving"), connect("worker")
    worker.AGAIN_SECONDS = 0.01
    await serving.wake(1)
    assert await _next(worker) == 1
    waiting = asyncio.create_task(_next(worker))
    redis.kill()
    async with asyncio.timeout(SOON):
        await serving.wake(2)  # dropped without a word: the sweeper comes by
    redis.start()
    await serving.wake(3)
    assert await waiting == 3


async def test_a_redis_that_lost_everything_gets_its_group_back(
    connect: Callable[[str], RedisWakeups], redis: RedisServer
) -> None:
    serving, worker = connect("serving"), connect("worker")
    worker.AGAIN_SECONDS = 0.01
    await serving.wake(1)
    assert await _next(worker) == 1
    async with Redis.from_url(redis.url()) as admin:
        await admin.flushall()
    await serving.wake(2)
    assert await _next(worker) == 2


async def test_a_redis_that_does_not_answer_is_given_up(
    connect: Callable[[str], RedisWakeups], redis: RedisServer
) -> None:
    serving = connect("serving")
    serving.ANSWER_SECONDS = 0.2
    await serving.wake(1)
    redis.pause()
    try:
        async with asyncio.timeout(SOON):
            await serving.wake(2)
    finally:
        redis.resume()
    assert await _next(connect("worker")) == 1


async def test_the_stream_does_not_grow_for_ever(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_wakeups, "WAITING_LIMIT", 100)
    async with Redis.from_url(redis.fresh_database()) as connection:
        serving = RedisWakeups(connection, "serving")
        await asyncio.gather(*(serving.wake(number) for number in range(1000)))
        assert await connection.xlen(RedisWakeups.STREAM) <= 300


async def _next(wakeups: Wakeups) -> int:
    async with asyncio.timeout(SOON):
        return await wakeups.next()
