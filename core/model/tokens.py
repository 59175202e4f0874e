"""How many tokens a text is, about: for budgets, and where an endpoint does not say.

A Han character is about 0.7 tokens and four Latin characters about one with the tokenizers of Qwen
(its documentation: 1 token is about 1.5–1.8 Han characters or 3–4 letters). We round up: a prompt that is a little
short is better than one that is refused.
"""

from __future__ import annotations


def estimate_tokens(text: str) -> int:
    """Tokens of a text, about, rather too many than too few; 0 for an empty one."""
    narrow = sum(character < "\u0250" for character in text)
    return (narrow + 3) // 4 + (len(text) - narrow)
