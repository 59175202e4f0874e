"""The real program with a Telegram and a model of its own, and people who write to it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from adapters.telegram.receive import PATH
from tests.fakes.model_server import KEY, MODEL, FakeModelServer, PacedModel
from tests.fakes.program import Program
from tests.fakes.telegram_api import TOKEN, FakeTelegramApi

PATIENCE = 20.0
PUBLIC_URL = "https://xinyu.example"
SECRET = "a-secret-of-the-webhook_1"

_user_ids = iter(range(1001, 10_000))


def new_person() -> int:
    """Somebody whom no other test talks with."""
    return next(_user_ids)


@dataclass
class World:
    """The program, the Telegram that it talks with, and its model."""

    program: Program
    api: FakeTelegramApi
    model: PacedModel

    async def health(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.program.url}/health") as response:
            parts: dict[str, Any] = (await response.json())["parts"]
            return parts

    async def until_health(self, state: str, detail: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await self.health())["telegram"] != {"state": state, "detail": detail}:
                await asyncio.sleep(0.02)  # another process has no event to wait on

    async def chat(self, text: str) -> str:
        """What the web page's API answers."""
        body = {"message": text, "user_id": "web"}
        url = f"{self.program.url}/chat"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            assert response.status == 200, await response.text()
            reply: str = (await response.json())["reply"]
            return reply

    async def post(self, body: bytes, headers: dict[str, str] | None = None) -> int:
        """Somebody posts to the webhook's address; the status."""
        url = f"{self.program.url}{PATH}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=body, headers=headers) as response,
        ):
            return response.status

    async def deliveries(self, state: str) -> list[dict[str, Any]]:
        """As an operator lists them."""
        lister = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot", "deliveries", "list", "--json", "--state", state),
            cwd=self.program.folder,
            env={"PYTHONPATH": str(Path(__file__).parents[1]), **self.program.settings},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await lister.communicate()
        assert lister.returncode == 0
        listed: list[dict[str, Any]] = json.loads(output)
        return listed


def settings_of(model: FakeModelServer, api: FakeTelegramApi) -> dict[str, str]:
    return {
        "LLM_API_KEY": KEY,
        "LLM_BASE_URL": model.base_url,
        "DEFAULT_MODEL": MODEL,
        "BURST_QUIET_SECONDS": "0",
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_API_BASE_URL": api.base_url,
    }


def webhook_settings() -> dict[str, str]:
    return {"TELEGRAM_MODE": "webhook", "TELEGRAM_WEBHOOK_SECRET": SECRET, "PUBLIC_URL": PUBLIC_URL}


@asynccontextmanager
async def world_in(
    folder: Path, more: Mapping[str, str] = {}, *, limits: bool = False
) -> AsyncIterator[World]:
    """A program that is not started yet, with a Telegram and a model of its own."""
    async with PacedModel() as model, FakeTelegramApi(limits=limits) as api:
        program = Program(folder, {**settings_of(model, api), **more})
        api.fronts[PUBLIC_URL] = program.url
        try:
            yield World(program, api, model)
        finally:
            await program.stop()
