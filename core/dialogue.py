"""Say something and follow the answer: what channels without a push of their own (web, terminal) are built on.

The answer is durable before it is called done, so a client that went away asks again with the same
event id and gets the same answer: asking is idempotent and resuming is asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from core.live import LiveReplies, LiveReply, Piece
from core.messages import IncomingMessage
from core.ports import Accepted, Inbox, Outcome, Store

LOOK_SECONDS = 1.0
"""How often the store is asked for an answer that another process may have given."""


class Dialogue:
    def __init__(self, inbox: Inbox, store: Store, live: LiveReplies) -> None:
        self._inbox = inbox
        self._store = store
        self._live = live

    async def ask(self, message: IncomingMessage, timeout: float) -> Outcome:
        """Say something and wait for the whole answer.

        Raises TimeoutError when it takes longer than `timeout` seconds (the message stays accepted),
        StoreUnavailable and IdempotencyConflict as `Inbox.accept`.
        """
        async with asyncio.timeout(timeout):
            async with aclosing(self.follow(message)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Outcome):
                        return piece
        raise AssertionError("follow() ends with an Outcome")

    async def follow(
        self, message: IncomingMessage, *, offset: int = 0
    ) -> AsyncGenerator[Piece | Outcome, None]:
        """Say something and follow the answer: `Piece`s as they come, at the end the `Outcome`.

        `offset` is how much of the answer the client has from an earlier try; a `Piece` with a
        smaller offset voids what it had from there on.
        """
        with self._live.watch(message.platform, message.event_id) as live:
            accepted = await self._inbox.accept(message)
            if accepted.duplicate and live.outcome is None:
                live.outcome = await self._outcome(accepted)
            generation = 0
            while True:
                generation, piece = live.since(generation, offset)
                if piece is not None:
                    offset = piece.offset + len(piece.text)
                    yield piece
                elif live.outcome is not None:
                    break
                else:
                    await self._wait(live, accepted)
            whole = live.outcome.reply.text
            if live.text != whole and offset < len(whole):
                yield Piece(offset, whole[offset:])
            yield live.outcome

    async def _wait(self, live: LiveReply, accepted: Accepted) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await live.changed()
        except TimeoutError:
            if not live.text:
                live.outcome = live.outcome or await self._outcome(accepted)

    async def _outcome(self, accepted: Accepted) -> Outcome | None:
        return await self._store.read(lambda tx: tx.inbox.outcome_of(accepted.inbox_id))
