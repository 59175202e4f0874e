"""The words for a person in danger, out of protocol.toml, where each number has its dated source."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from core.language import Language
from core.safety.rules import Risk


@dataclass(frozen=True, slots=True)
class Protocols:
    texts: dict[tuple[Risk, Language], str]

    def text(self, risk: Risk, language: Language) -> str:
        return self.texts[risk, language]


def load_protocols() -> Protocols:
    table = tomllib.loads(Path(__file__).with_name("protocol.toml").read_text(encoding="utf-8"))
    return Protocols({(Risk.HIGH, language): table[language]["high"].strip() for language in Language})
