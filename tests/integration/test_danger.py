"""Who says that they are in danger is answered at once, whatever else is slow, silent or away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from core.safety.protocol import load_protocols
from tests.fakes.model_server import KEY, MODEL, FakeModelServer, Silent
from tests.fakes.program import Program
from tests.fakes.telegram_api import TOKEN, FakeTelegramApi

DANGER = "我不想活了"
AT_ONCE_SECONDS = 3.0
"""Far below every time that a model is waited for."""
PERSON = 7
PROTOCOL = set(load_protocols().texts.values())


@dataclass
class World:
    program: Program
    model: FakeModelServer
    telegram: FakeTelegramApi

    async def say(self, text: str, user_id: str = "someone") -> str:
        async with (
            aiohttp.ClientSession(self.program.url) as session,
            session.post("/chat", json={"message": text, "user_id": user_id}) as response,
        ):
            reply: str = (await response.json())["reply"]
            return reply


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with FakeModelServer() as model, FakeTelegramApi() as telegram:
        settings = {
            "LLM_API_KEY": KEY,
            "LLM_BASE_URL": model.base_url,
            "DEFAULT_MODEL": MODEL,
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TELEGRAM_API_BASE_URL": telegram.base_url,
            "BURST_QUIET_SECONDS": "30",
            "BURST_MAX_SECONDS": "60",
        }
        program = Program(tmp_path, settings)
        await program.start()
        yield World(program, model, telegram)
        await program.kill()


async def test_danger_does_not_wait_for_the_end_of_typing(world: World) -> None:
    world.telegram.user_says(PERSON, "在吗")
    world.telegram.user_says(PERSON, DANGER)
    (reply,) = await world.telegram.wait_for_sent(1, AT_ONCE_SECONDS)
    assert reply.text in PROTOCOL


async def test_danger_does_not_wait_for_a_model_that_is_silent(world: World) -> None:
    world.model.behave(Silent())
    before = asyncio.create_task(world.say("在吗"))
    await world.model.wait_for_requests(1)
    began = time.monotonic()
    assert await world.say(DANGER) in PROTOCOL
    assert await before in PROTOCOL
    assert time.monotonic() - began < AT_ONCE_SECONDS


async def test_danger_does_not_wait_for_a_model_that_stopped_half_way(world: World) -> None:
    world.model.behave(Silent(after="我在"))
    before = asyncio.create_task(world.say("在吗"))
    await world.model.wait_for_requests(1)
    began = time.monotonic()
    assert await world.say(DANGER) in PROTOCOL
    assert await before in PROTOCOL
    assert time.monotonic() - began < AT_ONCE_SECONDS


async def test_danger_does_not_wait_for_a_late_answer(world: World) -> None:
    await world.model.stop()
    assert await world.say("在吗") not in PROTOCOL  # the listener's: the real answer is owed
    world.model.behave(*[Silent()] * 9)
    await world.model.start()
    await world.model.wait_for_requests(1)  # the late answer, which hangs
    began = time.monotonic()
    assert await world.say(DANGER) in PROTOCOL
    assert time.monotonic() - began < AT_ONCE_SECONDS


async def test_danger_is_answered_with_everything_else_away(world: World) -> None:
    await world.model.stop()
    began = time.monotonic()
    assert await world.say(DANGER) in PROTOCOL
    assert time.monotonic() - began < AT_ONCE_SECONDS
