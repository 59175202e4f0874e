"""Cutting a text into pieces that a platform takes, at the best place there is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace

from core.messages import Mark, Segment

_PARAGRAPH = re.compile(r"\n\n+")
_LINE = re.compile(r"\n")
_SENTENCE = re.compile(r"[。！？!?…]+[”’」』）)\"']*|[.]\s")
_BLANK = re.compile(r"\s")
_FLAG_LETTERS = range(0x1F1E6, 0x1F1FF + 1)
_JOINED_TO_BEFORE = (
    range(0x200C, 0x200D + 1),  # zero-width joiners
    range(0xFF9E, 0xFF9F + 1),  # halfwidth voiced marks
    range(0x1F3FB, 0x1F3FF + 1),  # skin tones
    range(0xE0020, 0xE007F + 1),  # tags: the flags of England, Scotland, Wales
    range(0x1160, 0x11FF + 1),  # Hangul vowels and finals
)
_HANGUL_INITIALS = range(0x1100, 0x115F + 1)
_HANGUL = (_HANGUL_INITIALS, range(0xAC00, 0xD7A3 + 1))


def utf16_units(character: str) -> int:
    """As Telegram and Discord count."""
    return 2 if character > "\uffff" else 1


def utf8_bytes(character: str) -> int:
    """As WeChat counts."""
    return len(character.encode())


CRUMB = 0.25


def cut(text: str, limit: int, size: Callable[[str], int], fullness: float = CRUMB) -> list[str]:
    """Pieces that join to the text, each within the limit (of at least 4), cut at the best place there is:
    after a paragraph, a line, a sentence, a blank, else between two characters as readers see them.

    `size`: what a character counts towards the limit. `fullness`: how full a piece is at the least, however much
    better an earlier place were.
    """
    pieces, start = [], 0
    while (end := _end_of_fitting(text, start, limit, size)) < len(text):
        place = _best_cut(text, start, end, fullness)
        pieces.append(text[start:place])
        start = place
    return [*pieces, text[start:]] if text else pieces


def cut_segment(
    whole: Segment, limit: int, size: Callable[[str], int], fullness: float = CRUMB
) -> list[Segment]:
    """A text with its marks, cut; a mark that a cut goes through (a code block, say) is in both pieces."""
    segments, start = [], 0
    for text in cut(whole.text, limit, size, fullness):
        segments.append(Segment(text, _within(whole.marks, start, start + len(text))))
        start += len(text)
    return segments


def _within(marks: tuple[Mark, ...], start: int, end: int) -> tuple[Mark, ...]:
    return tuple(
        replace(mark, start=max(mark.start, start) - start, end=min(mark.end, end) - start)
        for mark in marks
        if mark.start < end and mark.end > start
    )


def _end_of_fitting(text: str, start: int, limit: int, size: Callable[[str], int]) -> int:
    """Where the longest piece from `start` on ends."""
    units = 0
    for index in range(start, min(len(text), start + limit)):
        units += size(text[index])
        if units > limit:
            return max(index, start + 1)
    return min(len(text), start + limit)


def _best_cut(text: str, start: int, end: int, fullness: float) -> int:
    crumb = start + int((end - start) * fullness)
    for boundary in (_PARAGRAPH, _LINE, _SENTENCE, _BLANK):
        for place in reversed([found.end() for found in boundary.finditer(text, start, end)]):
            if place >= crumb and not _inside_character(text, place, start):
                return place
    for place in range(end, start, -1):
        if not _inside_character(text, place, start):
            return place
    return end  # one character as readers see it, longer than a piece


def _inside_character(text: str, index: int, start: int) -> bool:
    """Whether readers see what is before and after `index` as one: Unicode's grapheme clusters (UAX 29) without
    those of Indic conjuncts. What is before `start` is cut off already."""
    here, before = text[index], text[index - 1]
    if before in "\r\n":
        return before + here == "\r\n"
    code = ord(here)
    if unicodedata.category(here) in ("Mn", "Me", "Mc") or before == "\u200d":
        return True
    if code in _FLAG_LETTERS:
        first = index
        while first > start and ord(text[first - 1]) in _FLAG_LETTERS:
            first -= 1
        return (index - first) % 2 == 1
    if ord(before) in _HANGUL_INITIALS and any(code in hangul for hangul in _HANGUL):
        return True
    return any(code in joined for joined in _JOINED_TO_BEFORE)
