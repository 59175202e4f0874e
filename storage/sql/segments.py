"""A reply's segment as the text that a delivery's row holds, sealed."""

from __future__ import annotations

import base64
import json
from typing import Any

from core.messages import Button, Mark, MarkKind, Media, MediaKind, Segment


def packed(segment: Segment) -> str:
    """JSON with what the segment has; what it does not have is left out."""
    found: dict[str, Any] = {
        "text": segment.text,
        "marks": [[mark.kind, mark.start, mark.end, mark.value] for mark in segment.marks],
        "buttons": [[[button.label, button.command] for button in row] for row in segment.buttons],
        "owner": segment.owner,
        "media": _packed_media(segment.media),
        "replaces": segment.replaces,
        "answers": segment.answers,
        "silent": segment.silent,
    }
    return json.dumps({name: value for name, value in found.items() if value}, ensure_ascii=False)


def unpacked(text: str) -> Segment:
    """The segment; its pause is the row's `next_attempt_at` by now."""
    found = json.loads(text)
    return Segment(
        text=found.get("text", ""),
        marks=tuple(Mark(MarkKind(kind), *rest) for kind, *rest in found.get("marks", ())),
        buttons=tuple(tuple(Button(*button) for button in row) for row in found.get("buttons", ())),
        owner=found.get("owner", ""),
        media=_unpacked_media(found.get("media")),
        replaces=found.get("replaces"),
        answers=found.get("answers"),
        silent=found.get("silent", False),
    )


def _packed_media(media: Media | None) -> list[str] | None:
    if media is None:
        return None
    return [media.kind, media.name, base64.b64encode(media.data).decode()]


def _unpacked_media(found: list[str] | None) -> Media | None:
    if found is None:
        return None
    kind, name, data = found
    return Media(MediaKind(kind), name, base64.b64decode(data))
