"""The sign that an answer is being written, kept alive while it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from core.ports import Sender

RENEW_SECONDS = 4.5
"""Telegram shows a chat action for 5 s (Bot API, sendChatAction); Discord's typing lasts 10 s."""


class TypingSign:
    """One turn's sign in one chat, however often the turn is begun again; none where a channel has no sender."""

    def __init__(self, sender: Sender | None, chat_id: str) -> None:
        self._sender = sender
        self._chat_id = chat_id
        self._lasts_until = 0.0

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show the sign for as long as the block runs."""
        if self._sender is None:
            yield
            return
        showing = asyncio.create_task(self._show(self._sender), name="typing")
        try:
            yield
        finally:
            showing.cancel()
            with suppress(asyncio.CancelledError):
                await showing

    async def _show(self, sender: Sender) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(0.0, self._lasts_until - loop.time()))
            self._lasts_until = loop.time() + RENEW_SECONDS
            await sender.show_typing(self._chat_id)
