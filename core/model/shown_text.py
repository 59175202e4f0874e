"""A model's answer as the person sees it: without thinking aloud, blank ends and what is no text."""

from __future__ import annotations

import re

from core.model.thinking import ThinkingStripper

_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline; what turns the direction of writing (core.text);
halves of surrogate pairs, which cannot be written as UTF-8."""


class ShownText:
    """Feed it the answer as it comes. What it has given back is always the beginning of the final text."""

    def __init__(self) -> None:
        self._stripper = ThinkingStripper()
        self._begun = False
        self._blank = ""
        """Held back: it belongs to the answer only if something follows."""

    def feed(self, text: str) -> str:
        return self._show(self._stripper.feed(text))

    def end(self) -> str:
        """What was held back in case it became a mark."""
        return self._show(self._stripper.end())

    def _show(self, text: str) -> str:
        text = _NO_TEXT.sub("", text)
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        whole = self._blank + text
        shown = whole.rstrip()
        self._blank = whole[len(shown) :]
        return shown
