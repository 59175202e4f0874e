"""`make demo`: the real program against the fakes, on a folder that goes away again. Nothing from outside is asked.

What is typed here is said to the bot in the fake Telegram; what the bot sends there is shown here.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.fakes.model_server import KEY, MODEL, FakeModelServer
from tests.fakes.program import Program
from tests.fakes.telegram_api import FakeTelegramApi
from tests.fakes.telegram_chats import SentMessage

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
            print("                 打按钮上的字就是按它 · type a button's words to press it")
            print("停止 · stop      Ctrl-C\n", flush=True)
            try:
                await _talk(telegram)
            finally:
                await program.stop()


async def _talk(telegram: FakeTelegramApi) -> None:
    """Until Ctrl-C, also where there is no keyboard. Who types a button's label presses it."""
    showing = asyncio.create_task(_show(telegram))
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            typed = line.strip()
            offering = [sent for sent in telegram.sent if typed and typed in _labels(sent)]
            if offering:
                telegram.user_presses(PERSON, offering[-1], typed)
            elif typed:
                telegram.user_says(PERSON, typed)
        await asyncio.Event().wait()
    finally:
        showing.cancel()


async def _show(telegram: FakeTelegramApi) -> None:
    """Each message that comes, and each that changes."""
    sent = edits = 0
    while True:
        await telegram.wait_until(
            lambda seen=(sent, edits): (len(telegram.sent), len(telegram.chats.edits)) != seen,  # type: ignore[misc]
            timeout=float("inf"),
        )
        for message in (*telegram.sent[sent:], *telegram.chats.edits[edits:]):
            print(f"心语> {message.text}")
            for row in message.buttons:
                print("      " + "  ".join(f"[{label}]" for label, _ in row))
        sys.stdout.flush()
        sent, edits = len(telegram.sent), len(telegram.chats.edits)


def _labels(sent: SentMessage) -> list[str]:
    return [label for row in sent.buttons for label, _ in row]


if __name__ == "__main__":
    try:
        asyncio.run(demo())
    except KeyboardInterrupt:
        print()
