"""What models write and a plain message cannot show: tables, tick boxes, pictures, HTML. It becomes words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from core.language import Language, language_of

_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
_IMAGE = re.compile(r"!\[([^\]\n]*)\]\((https?://[^\s()]+)[^)\n]*\)")
_MAIL = re.compile(r"\[([^\]\n]+)\]\(mailto:([^\s()?]+)[^)\n]*\)")
_NO_LINK = re.compile(
    r"\[([^\]\n]+)\]\((?!https?:)(?:[a-z][a-z0-9+.-]*:|[/#.])(?:[^()\n]|\([^()\n]*\))*\)", re.IGNORECASE
)
"""A link that leads nowhere from a chat: its label is what is left."""
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_HTML = re.compile(
    r"</?(?:b|i|u|s|em|strong|del|ins|mark|sub|sup|p|div|span|font|center|h[1-6]|ul|ol|li)(?:\s[^<>\n]*)?/?>",
    re.IGNORECASE,
)
_BOX = re.compile(r"^(\s*(?:[-*+]|\d+[.)])\s+)\[([ xX])\]\s", re.MULTILINE)
_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*")


def in_words(markdown: str) -> str:
    """The same Markdown with only what a plain message can show. Code stays as it is."""
    return "".join(
        part if part.startswith("`") else "\n".join(_without_tables(_worded(part).split("\n")))
        for part in _CODE.split(markdown)
    )


def _worded(text: str) -> str:
    text = _BREAK.sub("\n", text)
    text = _HTML.sub("", text)
    text = _BOX.sub(lambda found: f"{found[1]}{'☐' if found[2] == ' ' else '☑'} ", text)
    text = _IMAGE.sub(lambda found: f"[{found[1] or found[2]}]({found[2]})", text)
    text = _MAIL.sub(r"\1（\2）", text)
    return _NO_LINK.sub(r"\1", text)


def _without_tables(lines: Sequence[str]) -> Iterator[str]:
    index = 0
    while index < len(lines):
        heads = _cells(lines[index])
        if len(heads) > 1 and index + 1 < len(lines) and _is_rule(lines[index + 1]):
            index += 2
            while index < len(lines) and "|" in lines[index]:
                yield _row(heads, _cells(lines[index]))
                index += 1
        else:
            yield lines[index]
            index += 1


def _is_rule(line: str) -> bool:
    return "|" in line and _RULE.fullmatch(line) is not None


def _cells(line: str) -> list[str]:
    if "|" not in line:
        return []
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _row(heads: Sequence[str], cells: Sequence[str]) -> str:
    """`名字：甲；电话：1`."""
    told = [(head, cell) for head, cell in zip(heads, cells, strict=False) if cell]
    colon, between = ("：", "；") if language_of("".join(cells)) is Language.ZH else (": ", "; ")
    return "- " + between.join(f"{head}{colon}{cell}" if head else cell for head, cell in told)
