"""A reply as Telegram takes it: Markdown made into text and marks, in pieces within the limit."""

from __future__ import annotations

from telegram.constants import MessageLimit

from core.cut import cut_segment, utf16_units
from core.markdown import formatted
from core.messages import Segment

LIMIT = int(MessageLimit.MAX_TEXT_LENGTH)
"""UTF-16 code units (Bot API, sendMessage)."""


def render(markdown: str, limit: int = LIMIT) -> list[Segment]:
    """The pieces join to the text; a mark that a cut goes through (a code block, say) is in both pieces."""
    return cut_segment(formatted(markdown), limit, utf16_units)
