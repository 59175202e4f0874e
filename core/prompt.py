"""The one place where a prompt is put together.

Its order keeps the prefix stable between turns, so that the provider's prefix cache hits: who the
bot is and its rules first, then (as their rooms are built) summary, memories and knowledge, then
the window of the conversation, last what was just said.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile

from core.language import Language
from core.messages import NOT_FOR_THE_MODEL, ChatMessage, Role
from core.model.events import PromptMessage, PromptRole
from core.model.tokens import estimate_tokens
from core.persona.card import Persona
from core.phrases import Phrases
from core.ports import Pending
from core.wording import sayings

MESSAGE_OVERHEAD_TOKENS = 4
"""What the chat format itself adds to each message, about the same for every model we know."""


def build_prompt(
    persona: Persona,
    phrases: dict[Language, Phrases],
    window: Sequence[ChatMessage],
    messages: Sequence[Pending],
    *,
    language: Language,
    speaks: Language | None = None,
    group: bool = False,
    late: bool = False,
    budget_tokens: int,
) -> list[PromptMessage]:
    """The prompt that asks for an answer to `messages`.

    `late`: the messages stand in the window already, answered only by the listener so far.
    `language` is the persona's own words', `speaks` the one that the person asked to be answered in.
    `group`: several people are there.
    `budget_tokens` bounds window and messages together; what was just said always goes in whole.
    """
    said = "\n".join(saying.text for saying in sayings(messages))
    rules = [persona.prompts[language]]
    if group:
        rules.append(phrases[language].group)
    if speaks is not None:
        rules.append(phrases[language].speaks[speaks])
    system = PromptMessage(PromptRole.SYSTEM, "\n\n".join(rules))
    just_said = {pending.inbox_id for pending in messages}
    earlier = [
        message
        for message in window
        if message.source not in NOT_FOR_THE_MODEL and message.id not in just_said
    ]
    left = budget_tokens - _tokens(said)
    newest = _newest_within(earlier, left)
    asked = f"{said}\n\n{phrases[language].late}" if late else said
    return [system, *_alternating([*newest, PromptMessage(PromptRole.USER, asked)])]


def _newest_within(messages: Sequence[ChatMessage], budget_tokens: int) -> list[PromptMessage]:
    kept: list[PromptMessage] = []
    for message in reversed(messages):
        budget_tokens -= _tokens(message.text)
        if budget_tokens < 0:
            break
        role = PromptRole.USER if message.role is Role.USER else PromptRole.ASSISTANT
        kept.append(PromptMessage(role, message.text))
    # The person speaks first: the chat templates of Mistral and Gemma refuse anything else.
    return list(dropwhile(lambda message: message.role is PromptRole.ASSISTANT, reversed(kept)))


def _alternating(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """What one side said in a row becomes one message: many chat templates demand it."""
    joined: list[PromptMessage] = []
    for message in messages:
        if joined and joined[-1].role is message.role:
            joined[-1] = PromptMessage(message.role, f"{joined[-1].text}\n{message.text}")
        else:
            joined.append(message)
    return joined


def _tokens(text: str) -> int:
    return estimate_tokens(text) + MESSAGE_OVERHEAD_TOKENS
