"""A reply as Discord takes it: its own Markdown, in pieces within the limit, code fences whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

from core.cut import cut, utf16_units
from core.messages import Segment

LIMIT = 2000
"""Characters of a message (discord.com/developers/docs/resources/message, Create Message). Counted in UTF-16 code
units, which are never fewer."""
_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<language>[^`\n]*)\n.*?(?:^(?P=fence)`*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
_CLOSING = "\n```"


def render(markdown: str, limit: int = LIMIT) -> list[Segment]:
    """The pieces. A fence that fits one piece is in one; a longer one is closed and opened again at the cuts."""
    pieces: list[str] = []
    current = ""
    for block, language in _blocks(markdown):
        if _size(current + block) <= limit:
            current += block
            continue
        if language is None:
            *whole, current = cut(current + block, limit, utf16_units)
        else:
            whole = [current]
            *more, current = _cut_fence(block, language, limit)
            whole += more
        pieces += whole
    return [Segment(piece) for piece in [*pieces, current] if piece.strip()]


def _blocks(markdown: str) -> Iterator[tuple[str, str | None]]:
    """The text in order: what stands between fences (None), and fences with their language."""
    place = 0
    for found in _FENCE.finditer(markdown):
        if found.start() > place:
            yield markdown[place : found.start()], None
        yield _closed(found[0], found["fence"]), found["language"].strip()
        place = found.end()
    if place < len(markdown):
        yield markdown[place:], None


def _closed(block: str, fence: str) -> str:
    """A model that stopped in the middle of its code left it open."""
    last = block.rstrip().rpartition("\n")[2].strip()
    return block if last.startswith(fence) and "\n" in block.rstrip() else f"{block.rstrip()}\n{fence}"


def _cut_fence(block: str, language: str, limit: int) -> list[str]:
    """A fence in as many as it takes."""
    opening = f"```{language[:32]}\n"
    if _size(block) <= limit:
        return [block]
    code = block.partition("\n")[2].rpartition("\n")[0]
    room = limit - _size(opening) - _size(_CLOSING)
    return [f"{opening}{piece.strip(chr(10))}{_CLOSING}" for piece in cut(code, room, utf16_units)]


def _size(text: str) -> int:
    return sum(map(utf16_units, text))
