"""A reply's segment as the text that a delivery's row holds, sealed."""

from __future__ import annotations

import base64
import json
from typing import Any

from core.messages import Button, ChannelPicker, Mark, MarkKind, Media, MediaKind, Segment


def packed(segment: Segment) -> str:
    """JSON with what the segment has; what it does not have is left out."""
    found: dict[str, Any] = {
        "text": segment.text,
        "marks": [[mark.kind, mark.start, mark.end, mark.value] for mark in segment.marks],
        "buttons": [[_packed_button(button) for button in row] for row in segment.buttons],
        "choices": [_packed_button(choice) for choice in segment.choices],
        "picker": segment.picker
        and [segment.picker.label, segment.picker.command, list(segment.picker.chosen)],
        "owner": segment.owner,
        "media": _packed_media(segment.media),
        "replaces": segment.replaces,
        "answers": segment.answers,
        "silent": segment.silent,
        "response": segment.response,
        "follows": segment.follows,
    }
    return json.dumps({name: value for name, value in found.items() if value}, ensure_ascii=False)


def unpacked(text: str) -> Segment:
    """The segment; its pause is the row's `next_attempt_at` by now."""
    found = json.loads(text)
    return Segment(
        text=found.get("text", ""),
        marks=tuple(Mark(MarkKind(kind), *rest) for kind, *rest in found.get("marks", ())),
        buttons=tuple(tuple(Button(*button) for button in row) for row in found.get("buttons", ())),
        choices=tuple(Button(*choice) for choice in found.get("choices", ())),
        picker=_unpacked_picker(found.get("picker")),
        owner=found.get("owner", ""),
        media=_unpacked_media(found.get("media")),
        replaces=found.get("replaces"),
        answers=found.get("answers"),
        silent=found.get("silent", False),
        response=found.get("response"),
        follows=found.get("follows", False),
    )


def _packed_button(button: Button) -> list[str | bool]:
    return [button.label, button.command, button.chosen, button.asks]


def _unpacked_picker(found: list[Any] | None) -> ChannelPicker | None:
    return ChannelPicker(found[0], found[1], tuple(found[2])) if found is not None else None


def _packed_media(media: Media | None) -> list[str] | None:
    if media is None:
        return None
    return [media.kind, media.name, base64.b64encode(media.data).decode()]


def _unpacked_media(found: list[str] | None) -> Media | None:
    if found is None:
        return None
    kind, name, data = found
    return Media(MediaKind(kind), name, base64.b64decode(data))
