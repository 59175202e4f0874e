"""Say something and follow the answer: what channels without a push of their own (web, terminal) are built on.

The answer is durable before it is called done, so a client that went away asks again with the same
event id and gets the same answer: asking is idempotent and resuming is asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from core.live import LiveReplies, LiveReply, Piece, Place
from core.messages import IncomingMessage
from core.ports import Accepted, Inbox, Outcome, Store

LOOK_SECONDS = 1.0
"""How often the store is asked for an answer that another process may have given."""
HELD_SECONDS = 15.0
"""The same while a worker of this process is at it."""


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
        self, message: IncomingMessage, place: Place = Place()
    ) -> AsyncGenerator[Piece | Outcome, None]:
        """Say something and follow the answer: `Piece`s as they come, at the end the `Outcome`.

        `place` is how far the client had read in an earlier try.
        """
        with self._live.watch(message.platform, message.event_id) as live:
            accepted = await self._inbox.accept(message)
            assert accepted is not None, "nobody overhears a dialogue"
            if accepted.duplicate and live.outcome is None:
                await self._look(live, accepted)
            while True:
                piece = live.after(place)
                if piece is not None:
                    place = Place(piece.turn_id, piece.offset + len(piece.text))
                    yield piece
                elif live.outcome is not None:
                    yield live.outcome
                    return
                else:
                    await self._wait(live, accepted)

    async def _wait(self, live: LiveReply, accepted: Accepted) -> None:
        try:
            async with asyncio.timeout(HELD_SECONDS if live.begun else LOOK_SECONDS):
                await live.changed()
        except TimeoutError:
            await self._look(live, accepted)

    async def _look(self, live: LiveReply, accepted: Accepted) -> None:
        outcome = await self._store.read(lambda tx: tx.inbox.outcome_of(accepted.inbox_id))
        if outcome is not None and live.outcome is None:
            live.finish(outcome)
