"""What people write, made safe to store, show and put into a prompt, without changing what it says."""

from __future__ import annotations

import unicodedata

COMBINING_LIMIT = 8
"""Marks on one letter at the most: real scripts need few, "zalgo" text hundreds."""
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Overrides and embeddings that can make a text read as another (Unicode TR 36, 2.? "Bidirectional text spoofing")."""
_KEPT_CONTROLS = frozenset("\n\t")


class NotText(ValueError):
    """Lone surrogates: no Unicode text at all."""


def clean(text: str) -> str:
    """NFC without control characters, direction overrides and heaps of marks; blank ends cut. Idempotent.

    Raises NotText if it cannot be written as UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotText from None
    if text.isascii() and text.isprintable():
        return text.strip()
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    kept: list[str] = []
    marks = 0
    for character in lines:
        category = unicodedata.category(character)
        if (category in ("Cc", "Cs") and character not in _KEPT_CONTROLS) or character in _DIRECTIONS:
            continue
        # A spacing mark with a combining class may change places with the others when controls between them go.
        is_mark = category in ("Mn", "Me") or unicodedata.combining(character) != 0
        marks = marks + 1 if is_mark else 0
        if marks <= COMBINING_LIMIT:
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept)).strip()
