"""The sign that an answer is being written, kept alive while it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from core.ports import Sender

RENEW_SECONDS = 4.5
"""Telegram shows a chat action for 5 s (Bot API, sendChatAction); Discord's typing lasts 10 s."""


@asynccontextmanager
async def show_while(sender: Sender | None, chat_id: str) -> AsyncIterator[None]:
    """Show the sign in a chat for as long as the block runs; nothing where a channel has no sender."""
    if sender is None:
        yield
        return
    showing = asyncio.create_task(_show(sender, chat_id), name="typing")
    try:
        yield
    finally:
        showing.cancel()
        with suppress(asyncio.CancelledError):
            await showing


async def _show(sender: Sender, chat_id: str) -> None:
    while True:
        await sender.show_typing(chat_id)
        await asyncio.sleep(RENEW_SECONDS)
