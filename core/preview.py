"""An answer shown in the chat while it is being written, at the pace that the platform allows.

What it shows is never the answer: that goes out through the outbox, whole, whatever became of the preview.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from core.errors import ChatGoesOn, DeliveryFailed, RecipientGone
from core.ports import Sender

log = structlog.get_logger()

FIRST_AFTER_SECONDS = 0.6
"""An answer that is whole sooner needs no preview."""
EVERY_SECONDS = 1.0
SHOW_SECONDS = 4.0
"""How long one update may take."""


class Preview:
    """Implements the turn's Audience: it is told the text, and shows it when it may."""

    def __init__(
        self,
        sender: Sender,
        chat_id: str,
        may_send: Callable[[], Awaitable[bool]],
        remember: Callable[[str], Awaitable[None]],
        refused: Callable[[DeliveryFailed], Awaitable[None]],
        message_id: str | None,
    ) -> None:
        self._sender = sender
        self._chat_id = chat_id
        self._may_send = may_send
        self._remember = remember
        self._refused = refused
        self.message_id = message_id
        """The message in the chat that the answer is to replace, if there is one."""
        self.shown = False
        self._preview_id = 0
        self._text = ""
        self._broken = False

    def begin(self, turn_id: int) -> None:
        self._preview_id = turn_id % (2**31 - 1) or 1
        self._text = ""

    def append(self, text: str) -> None:
        self._text += text

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Show what there is as long as the block runs. An update under way is waited for: it must not
        arrive after the answer."""
        ended = asyncio.Event()
        showing = asyncio.create_task(self._show_until(ended), name="preview")
        try:
            yield
        finally:
            ended.set()
            await asyncio.wait({showing}, timeout=SHOW_SECONDS)
            showing.cancel()
            (trouble,) = await asyncio.gather(showing, return_exceptions=True)
            if isinstance(trouble, Exception):  # the answer goes out all the same
                log.error("preview_broke", exc_info=trouble)

    async def _show_until(self, ended: asyncio.Event) -> None:
        seen, wait = "", FIRST_AFTER_SECONDS
        while not self._broken:
            try:
                async with asyncio.timeout(wait):
                    await ended.wait()
                return
            except TimeoutError:
                wait = EVERY_SECONDS
            text = self._text
            if text.strip() and text != seen and await self._may_send():
                await self._show(text)
                seen = text

    async def _show(self, text: str) -> None:
        try:
            async with asyncio.timeout(SHOW_SECONDS):
                message_id = await self._sender.show_preview(
                    self._chat_id, self._preview_id, text, self.message_id
                )
        except (DeliveryFailed, RecipientGone, ChatGoesOn, TimeoutError) as error:
            if isinstance(error, DeliveryFailed):
                await self._refused(error)
            self._broken = True  # the answer itself will find out what is wrong
            log.info("preview_ended", reason=str(error) or "timeout")
            return
        self.shown = True
        if message_id is not None and message_id != self.message_id:
            self.message_id = message_id
            await self._remember(message_id)
