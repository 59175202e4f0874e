"""Which of our two languages to speak where the model is not asked."""

from __future__ import annotations

from enum import StrEnum


class Language(StrEnum):
    ZH = "zh"
    EN = "en"


def language_of(text: str, hint: str | None = None) -> Language:
    """Chinese if the text has a Han character; English if it has Latin letters and none;
    else what the platform reports of the person; Chinese when nothing tells."""
    if any("\u4e00" <= character <= "\u9fff" or "\u3400" <= character <= "\u4dbf" for character in text):
        return Language.ZH
    if any(character.isascii() and character.isalpha() for character in text):
        return Language.EN
    if hint is not None and not hint.lower().startswith("zh"):
        return Language.EN
    return Language.ZH
