"""`make demo`: the real program against the fakes, on a folder that goes away again. Nothing from outside is asked.

What is typed here is said to the bot in the fake Telegram; what the bot sends there is shown here.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
from pathlib import Path

from tests.fakes.model_server import KEY, MODEL, FakeModelServer
from tests.fakes.program import Program
from tests.fakes.telegram_api import FakeTelegramApi

PERSON = 7


async def demo() -> None:
    with tempfile.TemporaryDirectory(prefix="xinyu-demo-") as folder:
        async with FakeModelServer(latency=0.8) as model, FakeTelegramApi() as telegram:
            settings = {
                "LLM_API_KEY": KEY,
                "LLM_BASE_URL": model.base_url,
                "DEFAULT_MODEL": MODEL,
                "TELEGRAM_BOT_TOKEN": telegram.token,
                "TELEGRAM_API_BASE_URL": telegram.base_url,
            }
            program = Program(Path(folder), settings, port=int(os.environ.get("PORT", "8000")))
            await program.start()
            print(f"网页 · page      {program.url}")
            print(f"接口 · API docs  {program.url}/docs")
            print("Telegram         在这里打字，就像在 Telegram 里发消息 · type here as if in Telegram")
            print("停止 · stop      Ctrl-C\n", flush=True)
            try:
                await _talk(telegram)
            finally:
                await program.stop()


async def _talk(telegram: FakeTelegramApi) -> None:
    """Until Ctrl-C, also where there is no keyboard."""
    showing = asyncio.create_task(_show(telegram))
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip():
                telegram.user_says(PERSON, line.strip())
        await asyncio.Event().wait()
    finally:
        showing.cancel()


async def _show(telegram: FakeTelegramApi) -> None:
    for count in itertools.count(1):
        await telegram.wait_until(lambda count=count: len(telegram.sent) >= count, timeout=float("inf"))  # type: ignore[misc]
        print(f"心语> {telegram.sent[count - 1].text}", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(demo())
    except KeyboardInterrupt:
        print()
