"""What is shown: text made safe for a terminal, colours where they are wanted, an answer while it grows."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TextIO

from core.live import Piece

TAB = 8
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
"""C0, DEL and C1: with them a text could move the cursor, rename the window or write to the clipboard."""
_ERASE_BELOW = "\x1b[J"


class Style(StrEnum):
    """SGR parameters (ECMA-48, 8.3.117)."""

    PLAIN = ""
    DIM = "2"
    YOU = "36"
    THEY = "35"
    TROUBLE = "33"


@dataclass(frozen=True, slots=True)
class Screen:
    out: TextIO
    is_terminal: bool
    moves: bool
    """Whether the cursor may be moved: what was written can be taken back."""
    colours: bool

    def write(self, text: str, style: Style = Style.PLAIN) -> None:
        self.out.write(self.styled(safe(text), style))
        self.out.flush()

    def line(self, text: str, style: Style = Style.PLAIN) -> None:
        self.write(text, style)
        self.write("\n")

    def styled(self, text: str, style: Style) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colours and style and text else text

    def erase(self, written: str) -> bool:
        """Take back what was written since the line began; False if that cannot be done here."""
        columns, lines = self._size()
        below = rows_below(written, columns)
        if not self.moves or below >= lines:
            return False
        self.out.write("\r" + (f"\x1b[{below}A" if below else "") + _ERASE_BELOW)
        self.out.flush()
        return True

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self.out.fileno())
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24


def screen_of(out: TextIO, environ: Mapping[str, str]) -> Screen:
    """What `out` can do. NO_COLOR as on https://no-color.org: any value but the empty one."""
    is_terminal = out.isatty()
    moves = is_terminal and environ.get("TERM", "dumb") not in ("", "dumb")
    return Screen(out, is_terminal, moves, colours=moves and not environ.get("NO_COLOR"))


def safe(text: str) -> str:
    """The text without anything that a terminal would take for a command."""
    return text.translate(_CONTROLS)


def rows_below(written: str, columns: int) -> int:
    """How many rows below the first the cursor is after this was written at a line's beginning.

    Terminals disagree on the width of joined emoji; the smaller guess is taken, so that erasing
    leaves a trace rather than taking a line of the person's.
    """
    row = column = 0
    before = ""
    for character in written:
        width = 0 if before == "\u200d" else _width(character)
        before = character
        if character == "\n":
            row, column = row + 1, 0
        elif character == "\t":
            column = min(columns - 1, (column // TAB + 1) * TAB)
        elif column + width > columns:
            row, column = row + 1, width
        else:
            column += width
    return row


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clock_time(moment: datetime, now: datetime) -> str:
    """When it was, by this machine's clock, as short as it can be said."""
    there, here = moment.astimezone(), now.astimezone()
    if there.date() == here.date():
        return there.strftime("%H:%M")
    return there.strftime("%m-%d %H:%M" if there.year == here.year else "%Y-%m-%d %H:%M")


class GrowingAnswer:
    """An answer while it is being written. To a pipe it goes whole: nothing can be taken back there."""

    def __init__(self, screen: Screen, label: str, again: str) -> None:
        self._screen = screen
        self._label = label
        self._again = again
        """What to say where a false start cannot be taken back."""
        self._sign = ""
        self._text = ""
        self._open = False
        """Whether the cursor stands at the end of a line of this answer."""

    def wait(self, sign: str) -> None:
        """Show a sign until there is something to show."""
        if self._screen.moves:
            self._sign = sign
            self._screen.write(sign, Style.DIM)

    def stop_waiting(self) -> None:
        if self._sign:
            self._screen.erase(self._sign)
            self._sign = ""

    def take(self, piece: Piece) -> None:
        """Show a piece. What was shown from its offset on is void."""
        new = piece.text
        if piece.offset < len(self._text):
            new = self._text[: piece.offset] + new
            self._take_back()
        self._text += new
        if self._screen.is_terminal:
            self._show(new)

    def end(self) -> None:
        """It is whole."""
        if not self._screen.is_terminal:
            self._show(self._text)
        self.break_off()

    def break_off(self) -> None:
        """Nothing more is shown of it."""
        self.stop_waiting()
        if self._open:
            self._screen.write("\n")
            self._open = False

    def _show(self, text: str) -> None:
        if not self._open:
            self._screen.write(self._label, Style.THEY)
            self._open = True
        self._screen.write(text)

    def _take_back(self) -> None:
        if self._open and not self._screen.erase(self._label + safe(self._text)):
            self._screen.write("\n")
            self._screen.line(self._again, Style.DIM)
        self._text, self._open = "", False
