"""The prompt: within its budget, with roles in turn, and with nothing in it that nobody said."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.language import Language, language_of
from core.messages import NOT_FOR_THE_MODEL, ChatMessage, IncomingMessage, Platform, Role, Source
from core.model.events import PromptMessage, PromptRole
from core.model.tokens import estimate_tokens
from core.persona.card import load_card
from core.phrases import load_phrases
from core.ports import Pending
from core.prompt import MESSAGE_OVERHEAD_TOKENS, build_prompt

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PERSONA, PHRASES = load_card(), load_phrases()
ROLES = {Source.PERSON: Role.USER}
WORDS = st.text(min_size=1, max_size=30)
WINDOWS = st.lists(st.tuples(st.sampled_from(Source), WORDS), max_size=15)


def past(*said: tuple[Source, str]) -> list[ChatMessage]:
    return [
        ChatMessage(number, number, ROLES.get(source, Role.ASSISTANT), text, source, NOW)
        for number, (source, text) in enumerate(said, start=1)
    ]


def now_said(*texts: str, language: str | None = None, first_id: int = 1000) -> list[Pending]:
    return [
        Pending(
            number,
            1,
            NOW,
            IncomingMessage(Platform.WEB, f"e{number}", "c", "p", text, NOW, language=language),
        )
        for number, text in enumerate(texts, start=first_id)
    ]


def prompt_of(
    window: list[ChatMessage], messages: list[Pending], *, late: bool = False, budget: int = 2000
) -> list[PromptMessage]:
    language = language_of(messages[-1].message.text, messages[-1].message.language)
    return build_prompt(
        PERSONA, PHRASES, window, messages, language=language, late=late, budget_tokens=budget
    )


def spoken(prompt: list[PromptMessage]) -> list[tuple[str, str]]:
    return [(message.role.value, message.text) for message in prompt[1:]]


def test_who_it_is_comes_first_and_what_was_just_said_last() -> None:
    window = past((Source.PERSON, "昨天吵架了"), (Source.MODEL, "听着很难受"))
    prompt = prompt_of(window, now_said("今天好累", "不想上班"))
    assert prompt[0] == PromptMessage(PromptRole.SYSTEM, PERSONA.prompts[Language.ZH])
    assert spoken(prompt) == [
        ("user", "昨天吵架了"),
        ("assistant", "听着很难受"),
        ("user", "今天好累\n不想上班"),
    ]


def test_the_prefix_stays_the_same_while_a_conversation_grows() -> None:
    window = past((Source.PERSON, "一"), (Source.MODEL, "二"))
    before = prompt_of(window, now_said("三"))
    longer = [*window, *past((Source.PERSON, "三"), (Source.MODEL, "四"))]
    assert prompt_of(longer, now_said("五"))[: len(before)] == before


def test_the_listeners_words_are_not_the_bots() -> None:
    window = past((Source.PERSON, "在吗"), (Source.LISTENER, "我收到了"), (Source.PERSON, "喂"))
    assert spoken(prompt_of(window, now_said("还在吗"))) == [("user", "在吗\n喂\n还在吗")]


def test_the_protocols_words_were_said() -> None:
    window = past((Source.PERSON, "我不想活了"), (Source.PROTOCOL, "你现在安全吗？"))
    assert spoken(prompt_of(window, now_said("好一点了")))[1] == ("assistant", "你现在安全吗？")


def test_a_late_answer_asks_once_for_what_stands_in_the_window() -> None:
    window = past((Source.PERSON, "昨天的事"), (Source.MODEL, "嗯"), (Source.PERSON, "你在吗"))
    window.append(ChatMessage(4, 4, Role.ASSISTANT, "我收到了", Source.LISTENER, NOW))
    prompt = prompt_of(window, now_said("你在吗", first_id=3), late=True)
    assert spoken(prompt) == [
        ("user", "昨天的事"),
        ("assistant", "嗯"),
        ("user", f"你在吗\n\n{PHRASES[Language.ZH].late}"),
    ]


@pytest.mark.parametrize(
    ("text", "hint", "language"),
    [("so tired", "zh", Language.EN), ("好累", "en", Language.ZH), ("😔", "en", Language.EN)],
)
def test_it_speaks_the_persons_language(text: str, hint: str, language: Language) -> None:
    prompt = prompt_of([], now_said(text, language=hint), late=True)
    assert prompt[0].text == PERSONA.prompts[language]
    assert prompt[-1].text.endswith(PHRASES[language].late)


def test_a_window_cut_short_begins_with_the_person() -> None:
    """The chat templates of Mistral and Gemma refuse a conversation that the assistant begins."""
    window = past((Source.PERSON, "很久以前" * 50), (Source.MODEL, "我在听"), (Source.PERSON, "嗯"))
    assert spoken(prompt_of(window, now_said("好"), budget=60)) == [("user", "嗯\n好")]
    assert spoken(prompt_of(window[1:2], now_said("好"))) == [("user", "好")]


@given(WINDOWS, st.lists(WORDS, min_size=1, max_size=4), st.integers(0, 300), st.booleans())
def test_any_prompt_fits_and_is_what_a_strict_endpoint_takes(
    said: list[tuple[Source, str]], texts: list[str], budget: int, late: bool
) -> None:
    window, messages = past(*said), now_said(*texts)
    system, *rest = prompt_of(window, messages, late=late, budget=budget)
    assert system.role is PromptRole.SYSTEM
    assert rest[0].role is rest[-1].role is PromptRole.USER
    assert all(one.role is not other.role for one, other in itertools.pairwise(rest))
    just_said = "\n".join(texts)
    language_rule = (
        "" if not late else next(p.late for p in PHRASES.values() if rest[-1].text.endswith(p.late))
    )
    last = rest[-1].text.removesuffix(f"\n\n{language_rule}") if late else rest[-1].text
    assert last.endswith(just_said), "what was just said always goes in whole"

    kept = [message for message in window if message.source not in NOT_FOR_THE_MODEL]
    shown = "\n".join([*(message.text for message in rest[:-1]), last])
    suffixes = ["\n".join([*(m.text for m in kept[start:]), just_said]) for start in range(len(kept) + 1)]
    assert shown in suffixes, "the newest of what was said, without a gap"
    if shown != just_said:
        overhead = MESSAGE_OVERHEAD_TOKENS * len(rest)
        assert sum(estimate_tokens(m.text) for m in rest[:-1]) + estimate_tokens(
            last
        ) + overhead <= budget + len(kept), (
            "the budget, but for the line breaks between what one side said in a row"
        )
