"""What a person types: from a terminal with line editing, or line by line from a pipe.

What was typed is remembered for the arrow keys in this process alone: never on the disk.
"""

from __future__ import annotations

import codecs
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from adapters.terminal.render import Screen, Style
from core.text import NotText


def set_up_editing(screen: Screen) -> None:
    """Let `input` edit lines; a paste of several lines comes as one text where the terminal can tell."""
    with suppress(ImportError):
        import readline

        readline.clear_history()
        if screen.moves:
            readline.parse_and_bind("set enable-bracketed-paste on")


def typed(screen: Screen, name: str) -> str | None:
    """The next line; None at the end of input. Raises NotText, and KeyboardInterrupt at Ctrl-C."""
    try:
        return input(_prompt(screen, name))
    except EOFError:
        return None
    except UnicodeDecodeError:
        raise NotText from None


def _prompt(screen: Screen, name: str) -> str:
    """With marks around what takes no room, so that readline knows where the cursor is."""
    label = f"{name} › "
    if not screen.colours:
        return label
    begin, end = screen.styled("\0", Style.YOU).split("\0")
    return f"\x01{begin}\x02{label}\x01{end}\x02"


@contextmanager
def hushed_keyboard() -> Iterator[None]:
    """Keep what is typed meanwhile for the next line, unseen: it would stand in the middle of an answer.

    Ctrl-C still interrupts. Without line mode the kernel does not cut a long paste at 4095 bytes either.
    """
    try:
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
    except (termios.error, ValueError):  # no terminal
        yield
        return
    quiet = before[:]
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(keyboard, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def piped(source: BinaryIO) -> Iterator[str | NotText]:
    """The lines of a pipe, each as text, or as the NotText that it is: the others still count."""
    for number, line in enumerate(source):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 0 else line
        try:
            yield content.decode()
        except UnicodeDecodeError:
            yield NotText()
