"""The real program with a Discord and a model of its own, and people who write to it there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.discord_platform import Channel, FakeDiscord, Message, running_discord
from tests.fakes.model_server import KEY, MODEL, PacedModel
from tests.fakes.program import Program

PATIENCE = 30.0


@dataclass
class DiscordWorld:
    """The program, the Discord that it talks with, and its model."""

    program: Program
    discord: FakeDiscord
    model: PacedModel

    async def start(self) -> None:
        """Until the bot is listening and people can use its commands."""
        began = len(self.discord.requests)
        await self.program.start()
        await self.until(
            lambda: any(
                method == "PUT" and path.endswith("/commands") and status == 200
                for method, path, status in self.discord.requests[began:]
            )
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        await self.discord.wait_until(holds, seconds=PATIENCE)

    async def replies(self, channel: Channel, count: int) -> list[Message]:
        """The bot's messages there, as soon as there are so many."""
        await self.until(lambda: len(self.discord.messages(channel)) >= count)
        return self.discord.messages(channel)

    async def health(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.program.url}/health") as response:
            parts: dict[str, Any] = (await response.json())["parts"]
            return parts

    @property
    def data(self) -> Path:
        return self.program.folder / "data"

    @property
    def log(self) -> str:
        return self.program.output.read_text(errors="replace")


def settings_of(model: PacedModel, discord: FakeDiscord) -> dict[str, str]:
    return {
        "LLM_API_KEY": KEY,
        "LLM_BASE_URL": model.base_url,
        "DEFAULT_MODEL": MODEL,
        "BURST_QUIET_SECONDS": "0",
        "DISCORD_BOT_TOKEN": discord.token,
        "DISCORD_API_BASE_URL": discord.base_url,
    }


@asynccontextmanager
async def world_in(folder: Path, more: Mapping[str, str] = {}, **options: Any) -> AsyncIterator[DiscordWorld]:
    """A program that is not started yet, with a Discord and a model of its own. `options`: those of FakeDiscord."""
    async with PacedModel() as model, running_discord(**options) as discord:
        program = Program(folder, {**settings_of(model, discord), **more})
        try:
            yield DiscordWorld(program, discord, model)
        finally:
            await program.stop()
