"""Cutting a reply into pieces that Telegram takes: 4096 UTF-16 code units each (Bot API, sendMessage)."""

from __future__ import annotations

import re
import unicodedata

from telegram.constants import MessageLimit

LIMIT = int(MessageLimit.MAX_TEXT_LENGTH)
_PARAGRAPH = re.compile(r"\n\n+")
_LINE = re.compile(r"\n")
_SENTENCE = re.compile(r"[。！？!?…]+[”’」』）)\"']*|[.]\s")
_BLANK = re.compile(r"\s")
_JOINERS = "\u200d\ufe0f\ufe0e"


def render(text: str, limit: int = LIMIT) -> list[str]:
    """Pieces that join to the text, each within the limit, cut at the best place there is:
    after a paragraph, a line, a sentence, a blank, else between two characters as readers see them."""
    pieces = []
    while _units(text) > limit:
        cut = _best_cut(text, _fitting(text, limit))
        pieces.append(text[:cut])
        text = text[cut:]
    return [*pieces, text] if text else pieces


def _units(text: str) -> int:
    return len(text) + sum(character > "\uffff" for character in text)


def _fitting(text: str, limit: int) -> int:
    """How many characters fit."""
    units = 0
    for index, character in enumerate(text):
        units += 2 if character > "\uffff" else 1
        if units > limit:
            return index
    return len(text)


def _best_cut(text: str, fitting: int) -> int:
    for boundary in (_PARAGRAPH, _LINE, _SENTENCE, _BLANK):
        ends = [found.end() for found in boundary.finditer(text, 0, fitting)]
        if ends and ends[-1] >= fitting // 4:  # not a crumb
            return ends[-1]
    cut = fitting
    while cut > fitting // 2 and _belongs_before(text, cut):
        cut -= 1
    return cut if not _belongs_before(text, cut) else fitting


def _belongs_before(text: str, index: int) -> bool:
    """Whether the character at `index` is seen as one with the one before it."""
    here, before = text[index], text[index - 1]
    return (
        unicodedata.category(here) in ("Mn", "Me", "Mc")
        or here in _JOINERS
        or before == "\u200d"
        or "\U0001f3fb" <= here <= "\U0001f3ff"
        or ("\U0001f1e6" <= here <= "\U0001f1ff" and "\U0001f1e6" <= before <= "\U0001f1ff")
    )
