"""The XML that WeChat posts, read with nothing in it that could do more than say something."""

from __future__ import annotations

from xml.parsers import expat

DEPTH_LIMIT = 8
ELEMENTS_LIMIT = 1000


class BrokenXml(ValueError):
    """It is not well-formed, or has what no message of WeChat's has: a DTD, an entity, another root."""


def fields_of(text: str) -> dict[str, str]:
    """What stands right below `<xml>`, by name; of what is nested deeper only that it is there. Raises BrokenXml."""
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    parser.ProcessingInstructionHandler = reader.refuse
    parser.buffer_text = True
    try:
        parser.Parse(text.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise BrokenXml("not well-formed") from error
    return {name: "".join(pieces) for name, pieces in reader.fields.items()}


class _Reader:
    def __init__(self) -> None:
        self.fields: dict[str, list[str]] = {}
        self._elements = 0
        self._path: list[str] = []

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._path.append(name)
        self._elements += 1
        if self._path[0] != "xml" or len(self._path) > DEPTH_LIMIT or self._elements > ELEMENTS_LIMIT:
            raise BrokenXml("no message of WeChat's")
        if len(self._path) == 2:
            self.fields[name] = []

    def end(self, _name: str) -> None:
        self._path.pop()

    def characters(self, text: str) -> None:
        if len(self._path) == 2:
            self.fields[self._path[1]].append(text)

    def refuse(self, *_declaration: object) -> None:
        raise BrokenXml("a DTD, an entity or an instruction")
