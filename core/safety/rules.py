"""Whether a message says outright that its writer is in danger: local, at once, without any model.

This is a beginning, no more: it knows only plain first-person
statements. Slang, hints and build-ups over several turns pass it by, and the model's own rules (in
the persona's prompt) are then all there is. It prefers a needless word of care to a missed one, but
not about jokes of everyday speech (笑死, 困死了).
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum

from core.messages import IncomingMessage


class Risk(StrEnum):
    NONE = "none"
    HIGH = "high"

    @property
    def waits(self) -> bool:
        """Whether an answer may wait for the person to finish typing."""
        return self is Risk.NONE


_WANT = "(?:想|要|打算|准备|决定|只想|好想|真想|就想)"
_END = "(?:自杀|轻生|去死(?!党)|寻死|了结自己|结束(?:自己的?)?(?:生命|一切)|自我了断|跳楼(?![机价])|跳河|上吊|割腕)"
_PLAIN_STATEMENTS = (
    rf"我.{{0,6}}{_WANT}.{{0,4}}{_END}",
    rf"(?:^|[，。！？,.!?\s]){_WANT}{_END}",
    # Followed by a person or a pet name it means to miss somebody: 想死你了.
    r"(?<![不没])想死(?!了?[你您妳他她它我咱俺这那党妈爸哥姐弟妹爷奶老宝亲大])",
    r"(?:不想|不愿意?)(?:再)?活(?:下去|着)?了",
    r"活(?:不下去|够)了",
    r"我?(?:写好|写了|留了)遗书",
    r"(?:我|已经|刚刚?).{0,6}(?:割了?腕|吞了?.{0,6}(?:安眠药|药片)|喝了?农药)",
    r"(?:我)?(?:站在|坐在).{0,8}(?:楼顶|天台|桥上).{0,8}(?:跳|下去)",
    r"想从.{0,8}跳下去",
    r"想伤害自己|想自残|又自残了",
    r"\bi(?:'?m| am)? ?(?:really |just |so )?(?:want|wanna|going|gonna|plan(?:ning)?|ready|about)(?: to)? "
    r"(?:kill myself|end my life|die\b(?! (?:laughing|of laughter))|hurt myself|commit suicide)",
    r"\bkill(?:ing)? myself\b(?! laughing)",
    r"\b(?:end|ending|take|taking) my (?:own )?life\b",
    r"\bi(?: really| just)? (?:don'?t|do not) want to (?:live|be alive|exist)(?: any ?more)?\b",
    r"\bi(?:'?m| am) (?:feeling )?suicidal\b",
    r"\bi(?:'ve| have)? (?:took|taken|swallowed) (?:a lot of|all (?:the|my)|too many) (?:pills|meds|sleeping pills)\b",
)
_DANGER = re.compile("|".join(_PLAIN_STATEMENTS), re.IGNORECASE)
_ABOUT_OTHERS = re.compile(r"(?:他|她|朋友|同学|电影|小说|新闻|主角)[^我，。！？,.!?\s]{0,12}\Z")
_TRADITIONAL = str.maketrans(
    "殺輕遺書結農藥樓橋臺傷殘準備決寫剛經從夠斷束還沒說媽爺寶親這",
    "杀轻遗书结农药楼桥台伤残准备决写刚经从够断束还没说妈爷宝亲这",
)
"""The characters of the statements above as Taiwan and Hong Kong write them."""


def assess(text: str) -> Risk:
    """The risk that a message states in so many words."""
    plain = _fold(text)
    return Risk.HIGH if _states_danger(plain) or _states_danger(_joined(plain)) else Risk.NONE


def risk_of(message: IncomingMessage) -> Risk:
    """The risk that a message states: in its text, or in the name of what was sent with it.

    Not in what it quotes: that was looked at when it was said, and who quotes it may be well again.
    """
    return assess("\n".join([message.text, *(attachment.name for attachment in message.attachments)]))


def _states_danger(text: str) -> bool:
    """Whether some statement is there that its writer makes of themselves."""
    return any(
        "我" in found.group() or not _ABOUT_OTHERS.search(text[: found.start()][-20:])
        for found in _DANGER.finditer(text)
    )


def _fold(text: str) -> str:
    """The text without what writing plays with: width, letter case, traditional characters, zero widths."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").translate(_TRADITIONAL)
    return "".join(character for character in folded if unicodedata.category(character) != "Cf")


def _joined(text: str) -> str:
    """Without what stands between Han characters. Both ways are looked at: a blank may also end a statement."""
    return re.sub(r"(?<=[\u4e00-\u9fff])[\s.·、*_-]+(?=[\u4e00-\u9fff])", "", text)
