"""Server-sent events (WHATWG HTML, "Server-sent events") for an answer that is coming into being."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

from core.live import Piece, Place
from core.ports import Outcome

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": keep-alive\n\n"
_EVENT_ID = re.compile(r"(\d{1,19})-(\d{1,9})")


def event(name: str, data: dict[str, Any], event_id: str | None = None) -> bytes:
    """One event on the wire."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def delta(piece: Piece) -> bytes:
    """Text of the answer. A client's text becomes `text[:offset] + data.text`, counted in code points."""
    after = piece.offset + len(piece.text)
    data = {"turn_id": str(piece.turn_id), "offset": piece.offset, "text": piece.text}
    return event("delta", data, f"{piece.turn_id}-{after}")


def place_of(last_event_id: str | None) -> Place:
    """How far a client had read, by its Last-Event-ID; the beginning if that is none of ours."""
    found = _EVENT_ID.fullmatch(last_event_id or "")
    return Place(int(found[1]), int(found[2])) if found else Place()


async def events_of(
    pieces: AsyncGenerator[Piece | Outcome, None], done: Callable[[Outcome], dict[str, Any]]
) -> AsyncGenerator[bytes, None]:
    """The events of an answer, with a heartbeat while nothing comes so that no proxy hangs up."""
    waiting = asyncio.ensure_future(anext(pieces, None))
    try:
        while True:
            finished, _ = await asyncio.wait({waiting}, timeout=HEARTBEAT_SECONDS)
            if not finished:
                yield HEARTBEAT
                continue
            match waiting.result():
                case Piece() as piece:
                    yield delta(piece)
                case Outcome() as outcome:
                    yield event("done", done(outcome))
                    return
                case None:
                    return
            waiting = asyncio.ensure_future(anext(pieces, None))
    finally:
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({waiting})
        await pieces.aclose()
