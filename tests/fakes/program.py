"""The real program as a process of its own: started, killed and started again like an operator's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

START_SECONDS = 30.0


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Program:
    """`xinyu run` in a folder of its own. `settings` are environment variables."""

    folder: Path
    settings: dict[str, str]
    arguments: tuple[str, ...] = ("run",)
    port: int = field(default_factory=free_port)
    starts: int = 0

    def __post_init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> Path:
        return self.folder / "output.txt"

    async def start(self, *, wait: bool = True) -> None:
        self.starts += 1
        self._process = await self._spawn(*self.arguments)
        if wait:
            await self.wait_until_live()

    async def command(self, *arguments: str) -> int:
        """Run another of its commands, as `db upgrade`; the exit code."""
        process = await self._spawn(*arguments)
        async with asyncio.timeout(START_SECONDS):
            return await process.wait()

    async def _spawn(self, *arguments: str) -> asyncio.subprocess.Process:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        ours = {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PORT": str(self.port),
            "RATE_LIMIT_PER_MINUTE": "1000000",
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bot", *arguments),
                cwd=self.folder,
                env={**kept, **ours, **self.settings},
                stdout=output,
                stderr=output,
            )

    async def wait_until_live(self) -> None:
        """Wait until it answers. Raises RuntimeError with its output if it ends instead."""
        assert self._process is not None
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
            while self._process.returncode is None:
                try:
                    async with session.get(f"{self.url}/health?live=1") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.02)  # a process of another program has no event to wait on
        raise RuntimeError(self.output.read_text(errors="replace")[-2000:])

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(START_SECONDS):
            return await process.wait()
