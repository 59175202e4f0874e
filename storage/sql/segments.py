"""A reply's segment as the text that a delivery's row holds, sealed."""

from __future__ import annotations

import json

from core.messages import Mark, MarkKind, Segment


def packed(segment: Segment) -> str:
    marks = [[mark.kind, mark.start, mark.end, mark.value] for mark in segment.marks]
    return json.dumps({"text": segment.text, "marks": marks}, ensure_ascii=False)


def unpacked(text: str) -> Segment:
    found = json.loads(text)
    marks = (Mark(MarkKind(kind), start, end, value) for kind, start, end, value in found["marks"])
    return Segment(found["text"], tuple(marks))
