"""Answers while they come into being, for whoever watches: a streaming web page, a terminal, a waiting POST.

Nothing durable lives here. A watcher holds no queue: it remembers how much of the text it has seen
and is woken when there is more, so a slow reader costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from core.messages import Platform
from core.ports import Outcome


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of the answer from `offset` on, in characters. What a reader had from there on is void.

    A turn that begins again has another `turn_id`: nothing of the former one counts.
    """

    turn_id: int
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """How far a reader has read."""

    turn_id: int = 0
    offset: int = 0


class LiveReply:
    """The answer to one event, shared by all who watch it."""

    def __init__(self) -> None:
        self.turn_id = 0
        self.text = ""
        self.outcome: Outcome | None = None
        self.watchers = 0
        self.readers = 0
        """Those of them who see it while it is written."""
        self.answered_by = 0
        """How many watch, and how many turns write: while there is either, it is kept."""
        self._changed: asyncio.Future[None] | None = None
        """Made when somebody waits."""

    @property
    def begun(self) -> bool:
        """Whether a worker of this process is at it."""
        return self.turn_id != 0

    def begin(self, turn_id: int) -> None:
        self.turn_id = turn_id
        self.text = ""
        self._wake()

    def append(self, text: str) -> None:
        self.text += text
        self._wake()

    def finish(self, outcome: Outcome) -> None:
        self.turn_id = outcome.turn_id
        self.text = outcome.reply.text
        self.outcome = outcome
        self._wake()

    def after(self, place: Place) -> Piece | None:
        """What a reader at `place` has not seen yet."""
        offset = place.offset if place.turn_id == self.turn_id else 0
        if offset < len(self.text) or offset < place.offset:
            return Piece(self.turn_id, offset, self.text[offset:])
        return None

    async def changed(self) -> None:
        """Wait for whatever comes next."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._changed,))

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set_result(None)


class LiveReplies:
    """The answers that somebody watches or a turn of this process is writing, by event."""

    def __init__(self) -> None:
        self._replies: dict[tuple[Platform, str], LiveReply] = {}

    @contextmanager
    def watch(self, platform: Platform, event_id: str, *, reads: bool = True) -> Iterator[LiveReply]:
        """Watch an event's answer; several may watch the same. Begin before the event is accepted.

        `reads`: what is written of it is shown at once.
        """
        reply = self._replies.setdefault((platform, event_id), LiveReply())
        reply.watchers += 1
        reply.readers += reads
        try:
            yield reply
        finally:
            reply.watchers -= 1
            reply.readers -= reads
            self._forget_unused(platform, event_id)

    @contextmanager
    def answering(self, events: Sequence[tuple[Platform, str]]) -> Iterator[list[LiveReply]]:
        """Write these events' answer: kept meanwhile for watchers who come back or come late."""
        replies = [self._replies.setdefault(event, LiveReply()) for event in events]
        for reply in replies:
            reply.answered_by += 1
        try:
            yield replies
        finally:
            for event, reply in zip(events, replies, strict=True):
                reply.answered_by -= 1
                self._forget_unused(*event)

    def _forget_unused(self, platform: Platform, event_id: str) -> None:
        reply = self._replies[platform, event_id]
        if not reply.watchers and not reply.answered_by:
            del self._replies[platform, event_id]
