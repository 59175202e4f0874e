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
_SENTENCE = re.compile(r"(?<=[。！？!?…])(?![。！？!?…”’」』）)\"'])|(?<=\.)\s+(?=[A-Z\"'])|\n")
_STRUCTURED = re.compile(r"```|^\s*(?:[-*+>]|\d+[.)])\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Bubble:
    text: str
    pause_seconds: float
    """How long it takes to type it after the one before; none before the first."""


def bubbles(text: str) -> list[Bubble]:
    """The text in at most MOST_BUBBLES parts, in order and whole but for blanks between them.

    What has a shape of its own (code, a list, a quotation) stays in one piece.
    """
    parts = [text] if _STRUCTURED.search(text) else _parts(text)
    return [Bubble(part, 0.0 if index == 0 else _pause(part)) for index, part in enumerate(parts)]


def _parts(text: str) -> list[str]:
    parts: list[str] = []
    for paragraph in _PARAGRAPH.split(text):
        parts += [paragraph] if _width(paragraph) <= COMFORTABLE else _sentences(paragraph)
    parts = [part.strip() for part in parts if part.strip()]
    while len(parts) > MOST_BUBBLES:
        shortest = min(range(len(parts) - 1), key=lambda index: len(parts[index]) + len(parts[index + 1]))
        parts[shortest : shortest + 2] = [f"{parts[shortest]}\n{parts[shortest + 1]}"]
    return parts or [text]


def _sentences(paragraph: str) -> list[str]:
    """Sentences, the short ones together."""
    joined: list[str] = []
    for sentence in filter(None, _SENTENCE.split(paragraph)):
        if joined and _width(joined[-1]) < LONG_ENOUGH:
            blank = " " if joined[-1][-1].isascii() else ""
            joined[-1] += blank + sentence
        else:
            joined.append(sentence)
    return joined


def _pause(text: str) -> float:
    return min(max(_width(text) * SECONDS_A_LETTER, SHORTEST_PAUSE), LONGEST_PAUSE)


def _width(text: str) -> int:
    """A Han character says about as much as two Latin letters, and takes as long to type."""
    return sum(1 if character.isascii() else 2 for character in text)
