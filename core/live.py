"""Answers while they come into being, for whoever watches: a streaming web page, a terminal, a waiting POST.

Nothing durable lives here. A watcher holds no queue: it remembers how much of the text it has seen
and is woken when there is more, so a slow reader costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.messages import Platform
from core.ports import Outcome


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of the answer from `offset` on. What a reader had from there on is void."""

    offset: int
    text: str


class LiveReply:
    """The answer to one event, shared by all who watch it."""

    def __init__(self) -> None:
        self.text = ""
        self.outcome: Outcome | None = None
        self._generation = 0
        self._changed = asyncio.Event()
        self.watchers = 0

    def append(self, text: str) -> None:
        self.text += text
        self._wake()

    def restart(self) -> None:
        if self.text:
            self.text = ""
            self._generation += 1
            self._wake()

    def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def since(self, generation: int, offset: int) -> tuple[int, Piece | None]:
        """What a reader at `offset` of `generation` has not seen yet, with the generation it is of."""
        if generation != self._generation:
            return self._generation, Piece(0, self.text)
        if offset < len(self.text):
            return generation, Piece(offset, self.text[offset:])
        return generation, None

    async def changed(self) -> None:
        await self._changed.wait()


class LiveReplies:
    """The answers that somebody watches now, by event."""

    def __init__(self) -> None:
        self._replies: dict[tuple[Platform, str], LiveReply] = {}

    @contextmanager
    def watch(self, platform: Platform, event_id: str) -> Iterator[LiveReply]:
        """Watch an event's answer; several may watch the same. Begin before the event is accepted."""
        key = (platform, event_id)
        reply = self._replies.setdefault(key, LiveReply())
        reply.watchers += 1
        try:
            yield reply
        finally:
            reply.watchers -= 1
            if not reply.watchers:
                del self._replies[key]

    def watched(self, events: Iterable[tuple[Platform, str]]) -> list[LiveReply]:
        """The live replies of those of these events that are watched, each once."""
        found = (self._replies.get(event) for event in events)
        return [reply for reply in found if reply is not None]
