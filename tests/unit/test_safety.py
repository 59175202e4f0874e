"""What says outright that somebody is in danger, and what only sounds like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.language import Language
from core.safety.protocol import load_protocols
from core.safety.rules import Risk, assess

DANGER = [
    "我想死",
    "好想死",
    "真的好想死啊",
    "每天都想死。",
    "我真的想去死",
    "我想自杀",
    "我今天晚上打算自杀了",
    "我也想轻生",
    "我不想活了",
    "不想再活下去了",
    "我活不下去了",
    "我活够了",
    "我已经写好遗书了",
    "我刚割了腕",
    "我吞了一整瓶安眠药",
    "我现在站在楼顶，想跳下去",
    "我想跳楼",
    "我准备上吊",
    "我想结束自己的生命",
    "我又自残了",
    "男朋友跟我分手了我不想活了",
    "因为他我想自杀",
    "我想死 你知道吗",
    "我跟她吵架了\n不想活了",
    "我想死😭",
    "她走了，我不想活了",
    "我想自殺",
    "我寫好遺書了",
    "我想結束生命",
    "我 想 自 杀",
    "我想自·杀",
    "我想自\u200b杀",
    "我想自．杀",
    "I want to die",
    "i just wanna kill myself",
    "I'm going to end my life tonight",
    "I’m suicidal",
    "i don't want to live anymore",
    "I took too many pills",
    "ＩＷＡＮＴ ＴＯ ｄｉｅ, i want to die",
    "I want to hurt myself",
    "thinking about killing myself",
    "今天吃了火锅。\n但是我不想活了。",
]
HARMLESS = [
    "笑死我了",
    "困死了，今天不想上班",
    "我想死你了",
    "想死你啦！",
    "想死我了",
    "我朋友跟我说她不想活了",
    "我想死党了，好久没见",
    "我们想死他们了",
    "我不想死，我想好好活着",
    "我奶奶去世了，我很难过",
    "我想去玩跳楼机",
    "清仓跳楼价，我想买",
    "电影里的主角不想活了",
    "他说不想活了是在开玩笑",
    "今天好累，什么都不想做",
    "我好难过，没有人懂我",
    "我想睡觉",
    "我割了草坪",
    "I could die laughing",
    "I'm dying to see you",
    "I want to die laughing",
    "this deadline is killing me",
    "I live in my own world",
    "I took my pills this morning",
    "",
    "😭😭😭",
]


@pytest.mark.parametrize("text", DANGER)
def test_a_plain_statement_is_danger(text: str) -> None:
    assert assess(text) is Risk.HIGH


@pytest.mark.parametrize("text", HARMLESS)
def test_everyday_speech_is_not(text: str) -> None:
    assert assess(text) is Risk.NONE


def test_only_what_is_harmless_waits_for_the_burst() -> None:
    assert Risk.NONE.waits and not Risk.HIGH.waits


@given(
    st.sampled_from(["我想自杀", "我不想活了", "我活不下去了", "我想结束生命"]),
    st.lists(
        st.sampled_from([" ", "\u3000", "\u200b", "\u200d", "\u2060", "·", "*", "_", "-", "."]), max_size=30
    ),
    st.text(st.sampled_from("今天好累啊嗯。！\n "), max_size=20),
    st.text(st.sampled_from("再见了谢谢。！\n "), max_size=20),
)
def test_playing_with_the_writing_hides_nothing(said: str, fill: list[str], before: str, after: str) -> None:
    gaps = [*fill, *[""] * len(said)]
    disguised = "".join(character + gap for character, gap in zip(said, gaps, strict=False))
    assert assess(f"{before}\n{disguised}\n{after}") is Risk.HIGH


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_assessed(text: str) -> None:
    assert assess(text) in Risk


def test_a_long_text_is_assessed_in_time_proportional_to_it() -> None:
    for unit in ("我想", "我我我想想想", "i want to ", "我站在", "他", " ", "我 "):
        assess(unit * (8000 // len(unit)))  # pytest's timeout is the judge of what blows up


@pytest.mark.parametrize("language", Language)
def test_the_words_for_danger_are_there_and_plain(language: Language) -> None:
    text = load_protocols().text(Risk.HIGH, language)
    assert len(text) > 100 and text == text.strip()
    assert "AI" in text and ("现在安全吗" in text or "safe right now" in text)
    assert not set("#*`[]") & set(text), "no markup: it is sent as it is"
