"""Markdown as models write it, made into plain text and marks by a real parser (CommonMark, markdown-it).

Nothing is escaped and nothing can be malformed: whatever a model writes can be sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from core.messages import Mark, MarkKind, Segment

_PARSER = MarkdownIt("commonmark", {"html": False, "maxNesting": 50}).enable("strikethrough")
# Chat is no document: a line that begins with blanks is no code, a line of dashes below another no heading.
_PARSER.disable(["code", "lheading"])
_TOO_DEEP = re.compile(r"^(?:[ \t]*(?:>|[-+*]|\d{1,9}[.)])){20}", re.MULTILINE)
"""The parser leaves out what is nested deeper than it goes: such a text is sent as it is."""
_HOST = re.compile(r"(?:[\w-]{1,63}\.)+[\w-]{2,63}")
"""What platforms take for a web address; Telegram refuses a whole message for another."""
_INLINE = {"strong": MarkKind.BOLD, "em": MarkKind.ITALIC, "s": MarkKind.STRIKETHROUGH}
_NEWLINES = frozenset({"softbreak", "hardbreak"})


def formatted(markdown: str) -> Segment:
    """The whole reply as one segment. What means nothing in Markdown, and what shows nothing, is sent as it is."""
    if _TOO_DEEP.search(markdown):
        return Segment(markdown)
    writer = _Writer()
    try:
        writer.blocks(SyntaxTreeNode(_PARSER.parse(markdown)).children)
    except RecursionError:  # hundreds of marks within each other
        return Segment(markdown)
    segment = writer.segment()
    return segment if segment.text.strip() else Segment(markdown)


class _Writer:
    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._marks: list[Mark] = []
        self._lists = 0
        self._quoting = False

    def segment(self) -> Segment:
        return Segment(
            "".join(self._parts), tuple(sorted(self._marks, key=lambda mark: (mark.start, -mark.end)))
        )

    def blocks(self, nodes: Sequence[SyntaxTreeNode], gap: str = "\n\n") -> None:
        for index, node in enumerate(nodes):
            if index:
                self._add(gap)
            self._block(node)

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    @contextmanager
    def _marked(self, kind: MarkKind, value: str = "") -> Iterator[None]:
        start = self._length
        yield
        if self._length > start:
            self._marks.append(Mark(kind, start, self._length, value))

    def _block(self, node: SyntaxTreeNode) -> None:
        match node.type:
            case "heading":
                with self._marked(MarkKind.BOLD):
                    self.blocks(node.children)
            case "fence":
                with self._marked(MarkKind.PRE, node.info.strip().partition(" ")[0][:32]):
                    self._add(node.content.rstrip("\n"))
            case "blockquote":
                self._quote(node)
            case "bullet_list" | "ordered_list":
                self._list(node)
            case "hr":
                self._add("———")
            case "inline":
                self._inline(node.children)
            case _:
                self.blocks(node.children)

    def _quote(self, node: SyntaxTreeNode) -> None:
        if self._quoting:  # Telegram knows no quotes in quotes
            self.blocks(node.children)
            return
        self._quoting = True
        with self._marked(MarkKind.QUOTE):
            self.blocks(node.children)
        self._quoting = False

    def _list(self, node: SyntaxTreeNode) -> None:
        indent = "  " * self._lists
        self._lists += 1
        for index, item in enumerate(node.children):
            sign = f"{item.info}{item.markup}" if node.type == "ordered_list" else "•"
            self._add(f"{chr(10) if index else ''}{indent}{sign} ")
            self.blocks(item.children, gap="\n")
        self._lists -= 1

    def _inline(self, nodes: Sequence[SyntaxTreeNode]) -> None:
        for node in nodes:
            if node.type in _INLINE:
                with self._marked(_INLINE[node.type]):
                    self._inline(node.children)
            elif node.type == "code_inline":
                with self._marked(MarkKind.CODE):
                    self._add(node.content)
            elif node.type == "link":
                self._link(node)
            elif node.type in _NEWLINES:
                self._add("\n")
            else:  # text, and a picture's description
                self._add(node.content)

    def _link(self, node: SyntaxTreeNode) -> None:
        address = str(node.attrs.get("href", ""))
        if not _is_web_address(address):  # Telegram refuses the whole message for it
            self._inline(node.children)
            return
        with self._marked(MarkKind.LINK, address):
            self._inline(node.children)


def _is_web_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        return parts.scheme in ("http", "https") and parts.port != 0 and bool(_HOST.fullmatch(host))
    except ValueError:
        return False
