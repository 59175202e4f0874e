"""The real program under load: a model server in its own process, people who talk over HTTP, and the cost."""

from __future__ import annotations

import asyncio
import base64
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from tests.fakes.model_server import KEY, MODEL
from tests.fakes.program import Program, free_port

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Load:
    """So many people, each saying so many things one after the other."""

    people: int
    messages: int


@dataclass(frozen=True, slots=True)
class Cost:
    """`seconds`: one entry a turn, request out to reply in."""

    seconds: Sequence[float]
    wall: float
    cpu: float

    @property
    def turns_a_second(self) -> float:
        return len(self.seconds) / self.wall

    @property
    def cpu_ms(self) -> float:
        """CPU of the program a turn, in milliseconds."""
        return self.cpu / len(self.seconds) * 1000

    def percentile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.seconds, n=100)[percent - 1] * 1000

    @property
    def last(self) -> float:
        return max(self.seconds)


@asynccontextmanager
async def model_server(latency: float) -> AsyncIterator[str]:
    """A fake model server as a process of its own, so that its CPU is not counted; its address."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.model_server"),
        *("--port", str(port), "--latency", str(latency)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()  # it says so when it listens
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def running(folder: Path, latency: float, role: str = "", **settings: str) -> AsyncIterator[Program]:
    """The program on a model that answers after `latency` seconds."""
    async with model_server(latency) as base_url:
        ours = {
            "LLM_API_KEY": KEY,
            "LLM_BASE_URL": base_url,
            "DEFAULT_MODEL": MODEL,
            "EMBEDDING_MODEL": "none",
            "ENCRYPTION_KEY": base64.b64encode(os.urandom(32)).decode(),
        }
        program = Program(folder, {**ours, **settings}, ("run", "--role", role) if role else ("run",))
        assert (
            await program.command("db", "upgrade") == 0
        )  # a first start holds Alembic, 10 MiB, until it ends
        await program.start()
        try:
            yield program
        finally:
            await program.stop()


async def put(program: Program, load: Load, prefix: str = "person") -> Cost:
    """Put a load on the program. Every answer is checked."""
    process = psutil.Process(program.pid)
    seconds: list[float] = []
    before, began = _cpu(process), time.perf_counter()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=300)
    async with (
        aiohttp.ClientSession(program.url, connector=connector, timeout=timeout) as session,
        asyncio.TaskGroup() as group,
    ):
        for person in range(load.people):
            group.create_task(_talk(session, f"{prefix}-{person}", load.messages, seconds))
    return Cost(seconds, time.perf_counter() - began, _cpu(process) - before)


async def _talk(session: aiohttp.ClientSession, user_id: str, messages: int, seconds: list[float]) -> None:
    for number in range(messages):
        text = f"今天第 {number} 次想和你说说话，心里有点乱。"
        began = time.perf_counter()
        async with session.post("/chat", json={"message": text, "user_id": user_id}) as response:
            reply = (await response.json()).get("reply")
        seconds.append(time.perf_counter() - began)
        if reply != f"回声:{text}":
            raise AssertionError(f"a wrong answer under load: status {response.status}")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def memory(program: Program) -> float:
    """What the program holds, in MiB."""
    return float(psutil.Process(program.pid).memory_info().rss) / MEBIBYTE
