"""Telegram's updates put on the program's webhook, at a given rate or as fast as it takes them."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from tests.bench.load import running
from tests.fakes.program import Program
from tests.fakes.telegram_api import SECRET_HEADER, TOKEN, FakeTelegramApi

PUBLIC_URL = "https://xinyu.example"
SECRET = "secret-of-the-bench"
FIRST_PERSON, PEOPLE = 1000, 1000
PROGRAMS_CORE = 0
CONNECTIONS = 40
"""As many as we let Telegram open (setWebhook, max_connections)."""
_update_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Posted:
    """`seconds`: one entry an update, from when it should have been posted to its 200."""

    seconds: Sequence[float]
    wall: float

    @property
    def a_second(self) -> float:
        return len(self.seconds) / self.wall

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.seconds, n=100)[percent - 1] * 1000


@asynccontextmanager
async def hooked(
    folder: Path, latency: float, role: str = "", **more: str
) -> AsyncIterator[tuple[Program, FakeTelegramApi]]:
    """The program alone on one core with its webhook set, on a model that answers after `latency` seconds."""
    with _elsewhere():
        async with FakeTelegramApi() as telegram:
            settings = {
                "TELEGRAM_BOT_TOKEN": TOKEN,
                "TELEGRAM_API_BASE_URL": telegram.base_url,
                "TELEGRAM_MODE": "webhook",
                "TELEGRAM_WEBHOOK_SECRET": SECRET,
                "PUBLIC_URL": PUBLIC_URL,
            }
            telegram.fronts[PUBLIC_URL] = (
                "http://127.0.0.1:9"  # what the people below say there reaches nobody
            )
            for person in range(PEOPLE):
                telegram.user_says(FIRST_PERSON + person, "大家都认识我")
            async with running(folder, latency, role=role, **settings, **more) as program:
                psutil.Process(program.pid).cpu_affinity([PROGRAMS_CORE])
                await telegram.wait_until(lambda: telegram.webhook_url is not None)
                yield program, telegram


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Everything but the program (its model server, its Telegram, those who post) keeps off the program's core."""
    everywhere = psutil.Process().cpu_affinity()
    assert everywhere is not None
    psutil.Process().cpu_affinity([core for core in everywhere if core != PROGRAMS_CORE])
    try:
        yield
    finally:
        psutil.Process().cpu_affinity(everywhere)


async def post(program: Program, people: int, updates: int, a_second: float | None = None) -> Posted:
    """Post so many updates of so many people, in turn; `a_second`: not faster than that, whatever the answers do."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    seconds: list[float] = []
    async with aiohttp.ClientSession(program.url, connector=connector) as session:
        began = time.perf_counter()
        numbers = iter(range(updates))

        async def poster() -> None:
            for number in numbers:
                due = time.perf_counter()
                if a_second is not None:
                    due = began + number / a_second
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await _post(session, FIRST_PERSON + number % people)
                seconds.append(time.perf_counter() - due)

        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(poster())
        return Posted(seconds, time.perf_counter() - began)


async def _post(session: aiohttp.ClientSession, person: int) -> None:
    number = next(_update_ids)
    who = {"id": person, "is_bot": False, "first_name": "小雨", "language_code": "zh-hans"}
    update = {
        "update_id": number,
        "message": {
            "message_id": number,
            "from": who,
            "chat": {"id": person, "type": "private", "first_name": "小雨"},
            "date": int(time.time()),
            "text": f"今天第 {number} 次想和你说说话，心里有点乱。",
        },
    }
    headers = {SECRET_HEADER: SECRET}
    async with session.post("/webhooks/telegram", json=update, headers=headers) as response:
        if response.status != 200:
            raise AssertionError(f"the webhook answered {response.status}")
