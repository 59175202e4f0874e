"""The real program with a WeChat and a model of its own, and people who write to its account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from adapters.wechat.settings import PATH
from tests.fakes.model_server import KEY, MODEL, PacedModel
from tests.fakes.program import Program
from tests.fakes.wechat_platform import FakeWechat, Mode

PATIENCE = 30.0
PUBLIC_URL = "https://xinyu.example"
MORE = "继续"


@dataclass
class WechatWorld:
    """The program, the WeChat that it talks with, and its model."""

    program: Program
    wechat: FakeWechat
    model: PacedModel

    @property
    def address(self) -> str:
        return f"{self.program.url}{PATH}"

    async def health(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.program.url}/health") as response:
            parts: dict[str, Any] = (await response.json())["parts"]
            return parts


def settings_of(model: PacedModel, wechat: FakeWechat) -> dict[str, str]:
    return {
        "LLM_API_KEY": KEY,
        "LLM_BASE_URL": model.base_url,
        "DEFAULT_MODEL": MODEL,
        "BURST_QUIET_SECONDS": "0",
        "PUBLIC_URL": PUBLIC_URL,
        "WECHAT_APP_ID": wechat.app_id,
        "WECHAT_APP_SECRET": wechat.secret,
        "WECHAT_TOKEN": wechat.token,
        "WECHAT_ENCODING_AES_KEY": wechat.aes_key,
        "WECHAT_API_BASE_URL": wechat.base_url,
    }


@asynccontextmanager
async def world_in(
    folder: Path,
    more: Mapping[str, str] = {},
    *,
    mode: Mode = "plain",
    certified: bool = True,
) -> AsyncIterator[WechatWorld]:
    """A program that is not started yet, with a WeChat and a model of its own."""
    async with PacedModel() as model, FakeWechat(mode=mode, certified=certified) as wechat:
        program = Program(folder, {**settings_of(model, wechat), **more})
        wechat.webhook_url = f"{program.url}{PATH}"
        try:
            yield WechatWorld(program, wechat, model)
        finally:
            await program.stop()


async def until_pushing(world: WechatWorld) -> None:
    """Until the program has asked the API what its account may."""
    async with asyncio.timeout(PATIENCE):
        await world.wechat.wait_until(lambda: world.wechat.calls["/cgi-bin/message/custom/send"] > 0)
