"""`make bench`: measure, and print the table of docs/benchmarks.md. `python -m tests.bench NAME …` measures some."""

from __future__ import annotations

import asyncio
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from adapters.wechat.settings import Delivery
from tests.bench.discord import night
from tests.bench.load import Load, memory, put, running
from tests.bench.webhook import PEOPLE, Posted, hooked, post
from tests.bench.wechat import evening
from tests.companion import rows
from tests.fakes.telegram_api import TOKEN, FakeTelegramApi
from tests.services import MariaDb

WARM = Load(people=4, messages=25)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value beside what was asked for."""

    what: str
    measured: str
    asked: str
    kept: bool


Measurement = Callable[[Path], Awaitable[list[Figure]]]


def at_most(what: str, value: float, limit: float, unit: str) -> Figure:
    return Figure(what, f"{value:.1f} {unit}", f"≤ {limit:g} {unit}", value <= limit)


def at_least(what: str, value: float, limit: float, unit: str) -> Figure:
    return Figure(what, f"{value:.0f} {unit}", f"≥ {limit:g} {unit}", value >= limit)


async def one_user(folder: Path, store: str = "SQLite", **settings: str) -> list[Figure]:
    async with running(folder, 0, **settings) as program:
        await put(program, WARM)
        cost = await put(program, Load(people=1, messages=1000), "alone")
    return [
        at_most(f"one user, {store}: added latency p50", cost.percentile_ms(50), 10, "ms"),
        at_most(f"one user, {store}: added latency p99", cost.percentile_ms(99), 40, "ms"),
        at_most(f"one user, {store}: CPU a turn", cost.cpu_ms, 8, "ms"),
    ]


async def two_hundred(folder: Path) -> list[Figure]:
    async with running(folder, 1.0) as program:
        await put(program, Load(people=200, messages=1), "warm")
        cost = await put(program, Load(people=200, messages=5), "crowd")
        last = await put(program, Load(people=200, messages=1), "last")
    return [
        at_most("200 at once on a 1 s model: CPU a turn", cost.cpu_ms, 6, "ms"),
        at_most("200 at once on a 1 s model: the last answered after", last.last, 2.5, "s"),
    ]


async def throughput(folder: Path, store: str = "SQLite", **settings: str) -> list[Figure]:
    async with running(folder, 0, **settings) as program:
        await put(program, WARM)
        cost = await put(program, Load(people=50, messages=60), "many")
    return [
        at_least(f"50 users, {store}: turns a second", cost.turns_a_second, 150, "/s"),
        Figure(f"50 users, {store}: CPU a turn", f"{cost.cpu_ms:.1f} ms", "", True),
        Figure(f"50 users, {store}: p99", f"{cost.percentile_ms(99):.0f} ms", "", True),
    ]


async def mariadb_one_user(folder: Path) -> list[Figure]:
    with mariadb(folder) as url:
        return await one_user(folder, "MariaDB", DATABASE_URL=url)


async def mariadb_throughput(folder: Path) -> list[Figure]:
    with mariadb(folder) as url:
        return await throughput(folder, "MariaDB", DATABASE_URL=url)


async def waiting(folder: Path) -> list[Figure]:
    async with running(folder, 5.0) as program:
        load = asyncio.create_task(put(program, Load(people=2000, messages=1)))
        most = 0.0
        while not load.done():
            most = max(most, memory(program))
            await asyncio.sleep(0.05)  # a look now and then
        cost = load.result()
    return [
        at_most("2 000 waiting on a 5 s model: memory", most, 250, "MiB"),
        Figure("2 000 waiting on a 5 s model: the last answered after", f"{cost.last:.1f} s", "", True),
    ]


async def idle(folder: Path) -> list[Figure]:
    async with running(folder / "alone", 0) as program:
        await put(program, Load(people=1, messages=1))
        alone = memory(program)
    async with FakeTelegramApi() as telegram:
        settings = {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_API_BASE_URL": telegram.base_url}
        async with running(folder / "telegram", 0, **settings) as program:
            telegram.user_says(7, "你好")
            await telegram.wait_for_sent(1)
            with_telegram = memory(program)
    return [
        at_most("idle, after a first answer: memory", alone, 120, "MiB"),
        at_most("idle with Telegram, after a first answer: memory", with_telegram, 150, "MiB"),
    ]


async def start(folder: Path) -> list[Figure]:
    async with running(folder, 0) as program:
        await put(program, Load(people=1, messages=1))
        await program.stop()
        seconds = []
        for number in range(5):
            began = time.perf_counter()
            await program.start()
            await put(program, Load(people=1, messages=1), f"first-{number}")
            seconds.append(time.perf_counter() - began)
            await program.stop()
    return [at_most("first answer after `xinyu run`, slowest of 5", max(seconds), 2.5, "s")]


async def growth(folder: Path) -> list[Figure]:
    """The second half of 20 000 turns against the first."""
    held = []
    async with running(folder, 0) as program:
        for number in range(20):
            await put(program, Load(people=50, messages=20), f"day-{number}")
            held.append(memory(program))
    grown = max(held[10:]) - max(held[5:10])
    curve = " ".join(f"{value:.0f}" for value in held)
    return [
        at_most("20 000 turns: memory gained in the second half", grown, 5, "MiB"),
        Figure("20 000 turns: memory after each 1 000, MiB", curve, "", True),
    ]


async def webhook_accepts(folder: Path) -> list[Figure]:
    """As fast as the webhook takes them, with nothing else to do (`--role serve`)."""
    async with hooked(folder, 0, "serve") as (program, _):
        await post(program, people=1000, updates=1000)
        posted = await post(program, people=1000, updates=10_000)
        steady = await post(program, people=1000, updates=5_000, a_second=500)
    what = "webhook on one core, accepting and storing"
    return [
        at_least(f"{what}: as many updates a second as it can", posted.a_second, 500, "/s"),
        at_least(f"{what} 500 a second: accepted", steady.a_second, 495, "/s"),
        at_most(f"{what} 500 a second: p99", steady.percentile_ms(99), 50, "ms"),
    ]


async def webhook_while_waiting(folder: Path) -> list[Figure]:
    """The whole program on one core: two hundred people wait for a 2 s model, and others write meanwhile, as many a
    second as Telegram takes answers. Six times; the first, right after a start, is told apart."""
    waves: list[Posted] = []
    async with hooked(folder, 2.0, BURST_QUIET_SECONDS="0") as (program, _):
        for _ in range(6):
            await post(program, people=200, updates=200, a_second=200)
            waves.append(await post(program, people=PEOPLE, updates=50, a_second=25))
            await asyncio.sleep(2.5)  # until all of them are answered
    cold, *warm = waves
    p99 = Posted([seconds for wave in warm for seconds in wave.seconds], 1.0).percentile_ms(99)
    what = "webhook, while 200 turns wait for a 2 s model, on one core"
    return [
        at_most(f"{what}: p99", p99, 50, "ms"),
        Figure(
            f"{what}, in the first seconds after a start: slowest",
            f"{max(cold.seconds) * 1000:.0f} ms",
            "",
            True,
        ),
    ]


async def webhook_flood(folder: Path) -> list[Figure]:
    """The whole program on one core: two hundred people write two and a half messages a second each, all being
    answered by a model after 2 s."""
    async with hooked(folder, 2.0) as (program, telegram):
        await post(program, people=200, updates=400, a_second=100)
        posted = await post(program, people=200, updates=5_000, a_second=500)
        stored = _stored(folder)
        await telegram.wait_until(lambda: len({sent.chat_id for sent in telegram.sent}) >= 200, timeout=60)
    what = "webhook, 500 updates a second of 200 people in the middle of their turns"
    return [
        at_least(f"{what}: accepted a second", posted.a_second, 495, "/s"),
        at_most(f"{what}: p99", posted.percentile_ms(99), 50, "ms"),
        Figure(f"{what}: stored of 5 400 when the last 200 came", str(stored), "5400", stored == 5400),
    ]


async def wechat(folder: Path) -> list[Figure]:
    figures = []
    for delivery in (Delivery.QUICK, Delivery.CERTIFIED, Delivery.UNCERTIFIED):
        (folder / delivery).mkdir()
        found = await evening(folder / delivery, delivery, people=300, model_seconds=8.0)
        what = f"WeChat, 300 at once on an 8 s model, {delivery}"
        figures += [
            Figure(
                f"{what}: messages answered within 5 s of a try",
                f"{found.answered_in_time:.1f} %, slowest {max(found.tries):.2f} s",
                "100 %",
                found.unanswered == 0 and max(found.tries) < 5,
            ),
            Figure(
                f"{what}: answers that arrived exactly once",
                f"{found.once:.1f} %",
                "100 %",
                found.once == 100,
            ),
            Figure(
                f"{what}: from message to answer, p50 and last",
                f"{found.waited_at(50):.1f} s, {max(found.waited):.1f} s",
                "",
                True,
            ),
        ]
    return figures


async def discord(folder: Path) -> list[Figure]:
    found = await night(folder)
    what = "Discord, 500 people in 50 channels"
    grown = max(found.held) - found.held[0]
    curve = " ".join(f"{value:.0f}" for value in found.held)
    return [
        Figure(
            f"{what}: CPU a message that is not for it, over 20 000",
            f"{found.unaddressed_ms:.2f} ms",
            "≤ 0.2 ms",
            found.unaddressed_ms <= 0.2,
        ),
        at_most(f"{what}: memory gained after the first 5 000 of 20 000", grown, 5, "MiB"),
        Figure(f"{what}: memory after each 5 000 messages, 500 for it, MiB", curve, "", True),
        Figure(
            f"{what}: 2 000 questions answered once, in order", str(found.in_order), "True", found.in_order
        ),
        Figure(f"{what}: 5 000 messages, 500 for it, all answered after", f"{found.last:.1f} s", "", True),
        Figure(f"{what}: requests refused for their pace", str(found.too_many), "", True),
    ]


def _stored(folder: Path) -> int:
    return int(rows(folder / "data", "SELECT COUNT(*) FROM inbox")[0][0])


@contextmanager
def mariadb(folder: Path) -> Iterator[str]:
    server = MariaDb(folder / "mariadb")
    server.start()
    try:
        yield server.fresh_database()
    finally:
        server.remove()


MEASUREMENTS: dict[str, Measurement] = {
    "one_user": one_user,
    "two_hundred": two_hundred,
    "throughput": throughput,
    "mariadb_one_user": mariadb_one_user,
    "mariadb_throughput": mariadb_throughput,
    "waiting": waiting,
    "idle": idle,
    "start": start,
    "growth": growth,
    "webhook_accepts": webhook_accepts,
    "webhook_while_waiting": webhook_while_waiting,
    "webhook_flood": webhook_flood,
    "wechat": wechat,
    "discord": discord,
}


def machine() -> str:
    """What this was measured on."""
    memory_gib = psutil.virtual_memory().total / 1024**3
    return (
        f"{psutil.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}; program, model server, "
        f"database and the people who talk share the cores"
    )


async def main(names: list[str]) -> int:
    print(f"{machine()}\n\n| what | measured | asked | |\n|---|---|---|---|", flush=True)
    fell_short = 0
    for name in names or list(MEASUREMENTS):
        with tempfile.TemporaryDirectory(prefix="xinyu-bench-") as folder:
            for figure in await MEASUREMENTS[name](Path(folder)):
                mark = "" if not figure.asked else "kept" if figure.kept else "**fell short**"
                fell_short += not figure.kept
                print(f"| {figure.what} | {figure.measured} | {figure.asked} | {mark} |", flush=True)
    return 1 if fell_short else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
