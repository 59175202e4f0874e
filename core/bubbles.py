"""A reply as a few short messages with the pauses of somebody who types."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_BUBBLES = 5
LONG_ENOUGH = 24
"""In the width of a Latin letter: shorter sentences share a bubble with the next."""
COMFORTABLE = 60
"""The same: a paragraph up to so long stays whole."""
SECONDS_A_LETTER = 0.03
SHORTEST_PAUSE, LONGEST_PAUSE = 0.8, 4.0
_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(
    r"[。！？…]+(?![。！？…”’」』）)\"'])|[!?]+[\"')]*(?=\s)|[.][\"')]*(?=\s+[A-Z\"'(])|\n"
)
"""Where a sentence ends. A Latin one only before a blank (`example.com?q=1` is no two), and where a dot ends it, the
next one begins with a capital (e.g. this)."""
_STRUCTURED = re.compile(r"```|^\s*(?:[-*+>|]|\d+[.)、])", re.MULTILINE)
_PAIRED = ("**", "`", "__", "~~")


@dataclass(frozen=True, slots=True)
class Bubble:
    text: str
    pause_seconds: float
    """How long it takes to type it after the one before; none before the first."""


def bubbles(text: str) -> list[Bubble]:
    """The text in at most MOST_BUBBLES parts, in order and whole but for the blanks between them.

    What has a shape of its own (code, a list, a quotation) stays in one piece, and so does what a cut would
    tear apart (bold words over two sentences).
    """
    parts = [text] if _STRUCTURED.search(text) else _parts(text)
    if any(part.count(sign) % 2 for part in parts for sign in _PAIRED):
        parts = [text]
    return [Bubble(part, 0.0 if index == 0 else _pause(part)) for index, part in enumerate(parts)]


def _parts(text: str) -> list[str]:
    spans: list[tuple[int, int]] = []
    for start, end in _between(text, _PARAGRAPH, 0, len(text)):
        if _width(text[start:end]) <= COMFORTABLE:
            spans.append((start, end))
        else:
            spans += _sentences(text, start, end)
    while len(spans) > MOST_BUBBLES:
        index = min(range(len(spans) - 1), key=lambda i: _width(text[spans[i][0] : spans[i + 1][1]]))
        spans[index : index + 2] = [(spans[index][0], spans[index + 1][1])]
    return [text[start:end].strip() for start, end in spans] or [text]


def _sentences(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Sentences of a paragraph, the short ones together."""
    joined: list[tuple[int, int]] = []
    place = start
    ends = [found.end() for found in _SENTENCE.finditer(text, start, end)]
    for stop in [*ends, end]:
        if not text[place:stop].strip():
            continue
        if joined and _width(text[slice(*joined[-1])]) < LONG_ENOUGH:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((place, stop))
        place = stop
    return joined


def _between(text: str, boundary: re.Pattern[str], start: int, end: int) -> list[tuple[int, int]]:
    """What lies between the boundaries, without what is blank."""
    spans, place = [], start
    for found in [*boundary.finditer(text, start, end), None]:
        stop = end if found is None else found.start()
        if text[place:stop].strip():
            spans.append((place, stop))
        place = stop if found is None else found.end()
    return spans


def _pause(text: str) -> float:
    return min(max(_width(text) * SECONDS_A_LETTER, SHORTEST_PAUSE), LONGEST_PAUSE)


def _width(text: str) -> int:
    """A Han character says about as much as two Latin letters, and takes as long to type."""
    return sum(1 if character.isascii() else 2 for character in text)
