"""What a reaction says of an answer. Many say nothing for or against it: a tear may be thanks."""

from __future__ import annotations

from collections.abc import Sequence

GOOD, BAD, OTHER = "good", "bad", "other"
_GOOD = frozenset("👍❤🔥🥰👏🎉🤩🙏👌💯🤗😍🏆😇🤝🫡🆒💘😘")
_BAD = frozenset("👎💩🤮🤡🖕😡🥱🤬")


def verdict_on(emojis: Sequence[str]) -> str:
    """`good`, `bad` or `other`; what was taken back is `other`."""
    signs = {emoji.strip("\ufe0f") for emoji in emojis}
    good, bad = bool(signs & _GOOD), bool(signs & _BAD)
    if good == bad:
        return OTHER
    return GOOD if good else BAD
