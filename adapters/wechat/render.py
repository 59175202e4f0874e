"""A reply as WeChat shows it: plain text with links, in pieces of at most 2048 bytes of UTF-8.

developers.weixin.qq.com, "被动回复用户消息" and "客服消息". No Markdown is left over; `<a href>` is the one tag there
is. A button is such a link, too: tapped, it says its words as if the person had typed them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters.wechat.plain import in_words
from core.cut import cut_segment, utf8_bytes
from core.markdown import formatted
from core.messages import Button, Mark, MarkKind, Segment

LIMIT_BYTES = 2048
HINT_BYTES = 128
"""Left free for a word on what is still to come."""
PIECE_BYTES = LIMIT_BYTES - HINT_BYTES
FULLNESS = 0.8
"""Messages are counted: a piece is filled so far before its end is chosen for its beauty."""
_TAG = re.compile(r"<(?=/?a(?:[\s/>]|$))", re.IGNORECASE)
_SCHEMES = ("http://", "https://")


def render(markdown: str, limit: int = PIECE_BYTES) -> list[Segment]:
    """The pieces, each within the limit with its links written out."""
    whole = formatted(in_words(markdown))
    links = tuple(mark for mark in whole.marks if _is_link(whole.text, mark))
    return _cut(Segment(_defanged(whole.text), links), limit, limit)


def _cut(segment: Segment, limit: int, room: int) -> list[Segment]:
    """Pieces for `limit`; where the links of one need more than that, it is cut for less room."""
    pieces: list[Segment] = []
    for piece in cut_segment(segment, room, utf8_bytes, FULLNESS):
        over = size_of(linked(piece)) - limit
        if over > 0 and (room > limit // 4 or (room > 4 and len(piece.marks) > 1)):
            pieces += _cut(piece, limit, max(min(room, size_of(piece.text)) // 2, 4))
        elif over > 0:  # nothing but a link as long as a message
            pieces += cut_segment(Segment(piece.text), limit, utf8_bytes)
        else:
            pieces.append(piece)
    return pieces


def in_text(segment: Segment) -> str:
    """The segment's text with its links, and its buttons below."""
    rows = ["　".join(_tappable(button) for button in row) for row in segment.rows]
    return "\n".join(
        [*([linked(segment), ""] if rows and segment.text else [linked(segment)]), *rows]
    ).strip()


def linked(segment: Segment) -> str:
    """The text with its links written out."""
    parts, done = [], 0
    for mark in segment.marks:
        if mark.kind is MarkKind.LINK and mark.start >= done:
            label = segment.text[mark.start : mark.end]
            parts += [segment.text[done : mark.start], anchor(mark.value, label)]
            done = mark.end
    return "".join([*parts, segment.text[done:]])


def anchor(address: str, label: str) -> str:
    return f'<a href="{address.replace(chr(34), "%22")}">{label}</a>'


def says(words: str, label: str) -> str:
    """A link that says these words for whoever taps it."""
    return anchor(f"weixin://bizmsgmenu?msgmenucontent={words}&msgmenuid=1", label)


def size_of(text: str) -> int:
    return len(text.encode())


def joined(texts: Sequence[str]) -> str:
    """Several replies as one message."""
    return "\n\n".join(text.strip() for text in texts if text.strip())


def _tappable(button: Button) -> str:
    return says(button.command, _defanged(button.label))


def _is_link(text: str, mark: Mark) -> bool:
    """Whether it needs a link: an address that stands there itself is one already."""
    return (
        mark.kind is MarkKind.LINK
        and mark.value.startswith(_SCHEMES)
        and text[mark.start : mark.end] != mark.value
    )


def _defanged(text: str) -> str:
    """Without tags of its own: nobody's text makes a link that says something in the person's name."""
    return _TAG.sub("＜", text)
