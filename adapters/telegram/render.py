"""A reply as Telegram takes it: Markdown made into text and marks, in pieces within the limit."""

from __future__ import annotations

from dataclasses import replace

from adapters.telegram.cut import LIMIT, cut
from adapters.telegram.markdown import formatted
from core.messages import Mark, Segment


def render(markdown: str, limit: int = LIMIT) -> list[Segment]:
    """The pieces join to the text; a mark that a cut goes through (a code block, say) is in both pieces."""
    whole = formatted(markdown)
    segments, start = [], 0
    for text in cut(whole.text, limit):
        segments.append(Segment(text, _within(whole.marks, start, start + len(text))))
        start += len(text)
    return segments


def _within(marks: tuple[Mark, ...], start: int, end: int) -> tuple[Mark, ...]:
    return tuple(
        replace(mark, start=max(mark.start, start) - start, end=min(mark.end, end) - start)
        for mark in marks
        if mark.start < end and mark.end > start
    )
