"""Commands in words, for platforms without slash commands and buttons: what is understood, and what we say there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.commands.asked import (
    ARGUMENT_CHARACTERS,
    COMMANDS,
    FORMED,
    IN_FORMS_ONLY,
    IN_WORDS_ONLY,
    Asked,
    Done,
    command_of,
    pressed,
)
from core.commands.run import run_command
from core.commands.settings import OPTIONS, WORDED_MENU
from core.commands.words import FREE_VALUES, WORDED, command_in_words, worded, words_for
from core.language import Language
from core.messages import (
    Button,
    ChatMessage,
    Command,
    ConversationKind,
    IncomingMessage,
    Platform,
    Role,
    Segment,
    Source,
)
from core.persona.card import load_personas
from core.phrases import load_phrases
from core.ports import ClaimedConversation, Pending, Store, Transaction
from core.settings import ConversationSettings, PersonSettings

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PHRASES = load_phrases()
T = TypeVar("T")
COMMON = {
    "start": ["开始使用", "get started"],
    "help": ["帮助", "菜单", "功能", "help", "menu"],
    "settings": ["设置", "settings"],
    "reset": ["翻篇", "重新开始", "reset", "new page"],
    "pause": ["先别找我", "暂停", "pause"],
    "resume": ["可以找我了", "恢复", "resume"],
    "export": ["导出", "导出数据", "export"],
    "delete_me": ["注销", "删除我的数据", "delete me", "delete my data"],
    "more": ["继续", "取回复", "接着说", "more", "continue"],
}
ANSWERS = {
    "consent yes": ["可以，开始吧", "Yes, let's begin"],
    "consent no": ["不要存我的话", "Don't keep my words"],
    "delete_me yes": ["是的，全部抹掉", "Yes, erase everything"],
    "delete_me no": ["算了，留着", "No, keep it"],
}
WHOLE = {word: Command(name) for name, words in COMMON.items() for word in words} | {
    word: Command(*command.split()) for command, words in ANSWERS.items() for word in words
}
"""Every message that is a command without an argument of its own."""


@dataclass
class Owed:
    """A store that only knows whether something is kept back for somebody."""

    owed: bool = False
    asked_for: tuple[int, str] | None = None

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        return unit(cast(Transaction, self))

    @property
    def deliveries(self) -> Owed:
        return self

    def is_owed(self, conversation_id: int, event_id: str) -> bool:
        self.asked_for = (conversation_id, event_id)
        return self.owed


def asking(
    command: Command,
    text: str = "",
    *,
    platform: Platform = Platform.WECHAT,
    person: PersonSettings = PersonSettings(),
    language: Language = Language.ZH,
    window: tuple[ChatMessage, ...] = (),
    store: Owed | None = None,
) -> Asked:
    message = IncomingMessage(platform, "event", "chat", "ann", text, NOW, command=command)
    by = Pending(11, 22, NOW, message)
    conversation = ClaimedConversation(
        id=33,
        platform=platform,
        chat_id="chat",
        kind=ConversationKind.PRIVATE,
        settings=ConversationSettings(),
        own_settings=ConversationSettings(),
        person=person,
        paused=False,
        preview_message_id=None,
        attempts=1,
        pending=(by,),
        deferred=(),
        window=window,
    )

    async def nobody(chat_id: str, user_id: str) -> bool:
        return False

    kept = cast(Store, store or Owed())
    language = person.language or language
    return Asked(
        command, conversation, by, language, PHRASES, load_personas(), NOW, "Asia/Shanghai", kept, nobody
    )


async def says(text: str, **more: Any) -> Done:
    """What is done for a person who says that."""
    command = command_in_words(text)
    assert command is not None, text
    return await run_command(asking(command, text, **more))


async def told(text: str, **more: Any) -> str:
    return "\n".join(segment.text for segment in (await says(text, **more)).segments)


def buttons(done: Done) -> list[Button]:
    return [button for segment in done.segments for row in segment.rows for button in row]


def history(*said: tuple[Role, str]) -> tuple[ChatMessage, ...]:
    return tuple(
        ChatMessage(number, number, role, text, Source.COMMAND, NOW)
        for number, (role, text) in enumerate(said, 1)
    )


def question(language: Language) -> str:
    return cast(str, PHRASES[language].commands["delete_me"]["ask"])


# --- whole messages -----------------------------------------------------------------------------


def test_the_locales_hold_these_words_and_no_others() -> None:
    held: dict[str, list[str]] = {}
    for language in Language:
        for name, words in PHRASES[language].commands["words"].items():
            held.setdefault(name, []).extend(words)
    assert held == COMMON


def test_every_command_can_be_said() -> None:
    assert COMMON.keys() == COMMANDS.keys() | IN_WORDS_ONLY.keys()
    assert WHOLE.keys() == {word for words in (*COMMON.values(), *ANSWERS.values()) for word in words}


@pytest.mark.parametrize(("text", "command"), WHOLE.items())
def test_a_whole_message_is_a_command(text: str, command: Command) -> None:
    assert command_in_words(text) == command
    assert command_in_words(text, "5") == Command(command.name, command.argument, "5")


blanks = st.text(st.sampled_from(" \t\n\u3000\u00a0"), max_size=3)
endings = st.text(st.sampled_from("。！!.~ ～｡．"), max_size=4)
spelled: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [
        str,
        str.upper,
        str.title,
        lambda text: text.replace("'", "’"),
        lambda text: text.replace(" ", "  "),
        lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),  # full width
    ]
)


@given(st.sampled_from(sorted(WHOLE)), blanks, endings, spelled)
def test_however_it_is_typed(word: str, before: str, after: str, spelled: Callable[[str], str]) -> None:
    assert command_in_words(f"{before}{spelled(word)}{after}") == WHOLE[word]


ANY_WORD = st.sampled_from(sorted(WHOLE))
letters = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)


@given(ANY_WORD, letters, st.sampled_from(["", " ", "，", "。", "\n"]), st.booleans())
def test_a_sentence_with_such_a_word_in_it_is_none(word: str, other: str, between: str, first: bool) -> None:
    text = f"{other}{between}{word}" if first else f"{word}{between}{other}"
    plain = command_in_words(text)
    assume(" ".join(text.split()) not in WHOLE)
    assert plain is None or (plain.name == "settings" and plain.argument)  # 设置 wait


@given(ANY_WORD, st.text(min_size=1, max_size=20))
def test_a_sentence_in_front_makes_it_talk(word: str, before: str) -> None:
    text = f"{before}，我说的是{word}"
    assert command_in_words(text) is None or text.lstrip().startswith("/")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "。",
            "你是谁",
            "开始",
            "我想注销",
            "帮助我",
            "帮帮我",
            "help me",
            "我要导出数据",
            "暂停一下好吗",
        ),
        *("继续说吧", "算了", "好的，可以，开始吧", "delete", "more please", "语言 英文", "language en"),
        *("设置：", "设置 密码", "设置闹钟", "设置，怎么弄", "：设置：语言", "settings are confusing"),
        *(
            "settings language is confusing",
            "设置 语言 我 不 会",
            "新设置 语言 英文",
            "/more",
            "/consent yes",
        ),
        *("「导出」了", "导出？", "注销?", "/", "/what", "设\n置"),
    ],
)
def test_these_are_talk(text: str) -> None:
    assert command_in_words(text) is None


@given(st.text(max_size=200))
def test_whatever_is_said_is_taken(text: str) -> None:
    command = command_in_words(text)
    if command is not None:
        assert command.name in COMMON or command.name == "consent"
        assert len(command.argument) <= ARGUMENT_CHARACTERS


@given(st.sampled_from(sorted(COMMANDS)), st.text(max_size=30))
def test_slash_forms_are_understood_too(name: str, rest: str) -> None:
    text = f"/{name} {rest}"
    slashed, found = command_of(text), command_in_words(text)
    assert slashed is not None
    assert found is not None
    assert found.name == name
    if name != "settings":
        assert found == slashed


def test_no_word_means_two_things() -> None:
    assert (
        PHRASES[Language.ZH].commands["value"].keys()
        == PHRASES[Language.EN].commands["value"].keys()
        == set(OPTIONS)
    )
    for name in OPTIONS:
        meaning: dict[str, str] = {}
        for language in Language:
            tables = PHRASES[language].commands
            said = [(raw, raw) for raw in OPTIONS[name]]
            said += [(label, raw) for raw, label in tables["value"][name].items()]
            said += [(word, raw) for raw, words in tables["also"].get(name, {}).items() for word in words]
            for word, raw in said:
                assert meaning.setdefault(word.casefold(), raw) == raw, (name, word)
        assert tables["value"][name].keys() == set(OPTIONS[name])
    calls = [
        (word.casefold(), name)
        for language in Language
        for name, label in PHRASES[language].commands["setting"].items()
        for word in (name, label)
    ]
    assert len(dict(calls)) == len({word for word, _ in calls}) == len(set(calls))


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("设置 语言 英文", "language en"),
        ("设置：语言：英文", "language en"),
        ("设置:语言=英语。", "language en"),
        ("设置，语言，中文", "language zh"),
        ("设置·语言·跟着你", "language auto"),
        ("设置　语言＝English", "language en"),
        ("settings language zh", "language zh"),
        ("Settings: Language: Chinese", "language zh"),
        ("settings language as you write", "language auto"),
        ("设置 language 中文", "language zh"),
        ("settings 语言 en", "language en"),
        ("设置 语言", "language"),
        ("设置：语言：", "language"),
        ("设置 语言 法语", "language 法语"),
        ("settings language fr", "language fr"),
        ("settings:timezone:Asia/Tokyo", "timezone Asia/Tokyo"),
        ("settings time zone asia/kolkata", "timezone asia/kolkata"),
        ("settings time zone new york", "timezone America/New_York"),
        ("设置 时区 东京", "timezone Asia/Tokyo"),
        ("设置 时区 北京", "timezone Asia/Shanghai"),
        ("设置 时区 北京 / 上海", "timezone Asia/Shanghai"),
        ("设置 时区 Etc/GMT+8", "timezone Etc/GMT+8"),
        ("设置 时区 America/Argentina/Buenos Aires", "timezone America/Argentina/Buenos Aires"),
        ("设置 等你打完 多等一会儿", "wait long"),
        ("settings waiting for you don’t wait", "wait off"),
        ("设置 安静时段 22 点到 7 点", "quiet 22-7"),
        ("设置 安静时段 21-6", "quiet 21-6"),
        ("/settings 语言 英文", "language en"),
        ("/settings language=en", "language en"),
        ("/settings 什么", "什么"),
        ("/settings", ""),
    ],
)
def test_settings_in_words(text: str, argument: str) -> None:
    assert command_in_words(text) == Command("settings", argument)


separators = st.text(st.sampled_from(" \t\n　:：=＝·,，"), min_size=1, max_size=3)


@given(st.data(), separators, separators, spelled)
def test_every_value_by_every_name_with_every_separator(
    data: st.DataObject, first: str, second: str, spelled: Callable[[str], str]
) -> None:
    """In any mixture of the two languages and the raw words."""
    name = data.draw(st.sampled_from(sorted(OPTIONS)))
    raw = data.draw(st.sampled_from(OPTIONS[name]))
    tables = [PHRASES[language].commands for language in Language]
    word = data.draw(st.sampled_from(["设置", "settings"]))
    called = data.draw(st.sampled_from([name, *(table["setting"][name] for table in tables)]))
    value = data.draw(st.sampled_from([raw, *(table["value"][name][raw] for table in tables)]))
    said = spelled(f"{word}{first}{called}{second}{value}")
    assert command_in_words(said) == Command("settings", f"{name} {raw}")


@given(st.text(max_size=80))
def test_a_value_of_ones_own_is_passed_through_or_not_meant(value: str) -> None:
    for name in FREE_VALUES:
        command = command_in_words(f"settings {name} {value}")
        assert command is None or command.argument.partition(" ")[0] == name


def test_what_is_too_long_is_talk() -> None:
    zone = "x" * (ARGUMENT_CHARACTERS - len("timezone "))
    assert command_in_words(f"设置 时区 {zone}") == Command("settings", f"timezone {zone}")
    assert command_in_words(f"设置 时区 {zone}x") is None


# --- more, on Telegram and elsewhere --------------------------------------------------------------


def test_more_is_for_platforms_without_slashes_alone() -> None:
    assert "more" not in COMMANDS
    assert command_of("/more") is None
    assert pressed("more", "5") is None
    assert frozenset({Platform.WECHAT}) == WORDED


@pytest.mark.parametrize("word", COMMON["more"])
async def test_more_is_silent_if_something_is_owed(word: str) -> None:
    store = Owed(owed=True)
    assert await says(word, store=store) == Done((), written=False)
    assert store.asked_for == (33, "event")


@pytest.mark.parametrize(("word", "language"), [("继续", Language.ZH), ("more", Language.EN)])
async def test_more_says_that_nothing_is_left(word: str, language: Language) -> None:
    nothing = PHRASES[language].commands["more"]["nothing"]
    assert await says(word) == Done((Segment(nothing),), written=False)


# --- consent and erasing --------------------------------------------------------------------------


@pytest.mark.parametrize("word", [*ANSWERS["consent yes"], *ANSWERS["consent no"]])
async def test_consent_in_words_sends_nothing_empty(word: str) -> None:
    done = await says(word)
    assert len(done.segments) == 1
    assert done.segments[0].text
    assert done.effect is not None


@pytest.mark.parametrize("word", ANSWERS["consent no"])
async def test_who_talks_already_is_asked_before_they_are_erased(word: str) -> None:
    done = await says(word, person=PersonSettings(consented_at=NOW))
    assert done.effect is None
    assert [command_in_words(button.command) for button in buttons(done)] == [
        Command("delete_me", "yes"),
        Command("delete_me", "no"),
    ]


@pytest.mark.parametrize("word", COMMON["delete_me"])
async def test_to_be_erased_is_asked_about_first(word: str) -> None:
    done = await says(word)
    assert done.effect is None
    assert done.written, "the yes is known by it"
    assert done.segments[0].text in {question(language) for language in Language}


@pytest.mark.parametrize("asked_in", Language)
@pytest.mark.parametrize("word", [*ANSWERS["delete_me yes"], "/delete_me yes"])
async def test_a_yes_to_the_question_erases(word: str, asked_in: Language) -> None:
    window = history((Role.USER, "注销"), (Role.ASSISTANT, question(asked_in)))
    done = await says(word, window=window)
    assert done.effect is not None
    assert not done.written
    (farewell,) = done.segments
    gone = {PHRASES[language].commands["delete_me"]["gone"] for language in Language}
    assert farewell.text in gone and farewell.replaces is None


@pytest.mark.parametrize(
    "window",
    [
        (),
        history((Role.ASSISTANT, "想把他的照片都删掉吗？")),
        history((Role.ASSISTANT, question(Language.ZH)), (Role.ASSISTANT, "好，都留着。")),
        history((Role.USER, question(Language.ZH))),
    ],
    ids=["nothing", "another question", "a question that was answered", "their own words"],
)
@pytest.mark.parametrize("word", [*ANSWERS["delete_me yes"], "/delete_me yes"])
async def test_a_yes_to_anything_else_is_asked_about(word: str, window: tuple[ChatMessage, ...]) -> None:
    done = await says(word, window=window)
    assert done.effect is None
    assert done.segments[0].text in {question(language) for language in Language}


@pytest.mark.parametrize("word", [*ANSWERS["delete_me no"], "/delete_me no"])
async def test_a_no_keeps_everything(word: str) -> None:
    for window in ((), history((Role.ASSISTANT, question(Language.ZH)))):
        done = await says(word, window=window)
        assert done.effect is None
        assert not buttons(done)


@pytest.mark.parametrize("platform", sorted(set(Platform) - WORDED))
async def test_elsewhere_only_a_button_erases(platform: Platform) -> None:
    window = history((Role.ASSISTANT, question(Language.ZH)))
    typed = command_of("/delete_me yes")
    assert typed is not None
    assert (await run_command(asking(typed, platform=platform, window=window))).effect is None
    by_button = pressed("delete_me yes", "5")
    assert by_button is not None
    done = await run_command(asking(by_button, platform=platform))
    assert done.effect is not None
    assert done.segments[0].replaces == "5"


@pytest.mark.parametrize("answer", ["yes", "no"])
async def test_elsewhere_a_pressed_consent_takes_its_buttons_away(answer: str) -> None:
    done = await run_command(asking(Command("consent", answer, "5"), platform=Platform.TELEGRAM))
    assert done.segments[0] == Segment("", replaces="5")


# --- what we say there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "zh", "en"),
    [
        ("想拿走，发 /export；想抹掉，发 /delete_me。", "想拿走，发「导出」；想抹掉，发「注销」。", None),
        ("(/export shows it)", None, "(“export” shows it)"),
        (
            "Take it with you: /export. Erase it: /delete_me.",
            None,
            "Take it with you: “export”. Erase it: “delete me”.",
        ),
        ("/resume brings it back.", None, "“resume” brings it back."),
        (
            "发 /settings timezone Asia/Kolkata",
            "发「设置 时区 Asia/Kolkata」",
            "发 “settings timezone Asia/Kolkata”",
        ),
        ("/settings language zh", "「设置 语言 中文」", "“settings language 中文”"),
        ("/settings language en", "「设置 语言 English」", "“settings language English”"),
        ("/settings quiet 23-8；或 off", "「设置 安静时段 23-8」；或 off", "“settings quiet 23-8”；或 off"),
        ("/settings can do that", None, "“settings” can do that"),
        ("/help /more", "「帮助」「继续」", "“help” “more”"),
        ("and/or/help 1/export https://a.b/start", "and/or/help 1/export https://a.b/start", None),
        ("/helpless /start2 /nothing", "/helpless /start2 /nothing", "/helpless /start2 /nothing"),
        ("", "", ""),
    ],
)
def test_slashes_become_words(text: str, zh: str | None, en: str | None) -> None:
    for language, wanted in ((Language.ZH, zh), (Language.EN, en)):
        if wanted is not None:
            done = worded(Done((Segment(text),)), asking(Command("help"), language=language))
            assert done == Done((Segment(wanted),))


def test_nothing_is_changed_in_place_and_all_else_stays() -> None:
    segment = Segment("好", owner="ann", replaces="5", silent=True)
    done = worded(Done((segment,), written=False), asking(Command("help")))
    assert done == Done((Segment("好", owner="ann", silent=True),), written=False)


def test_a_button_that_no_words_say_stays_as_it_is() -> None:
    rows = ((Button("👍", "feedback good"),),)
    done = worded(Done((Segment("好", buttons=rows),)), asking(Command("help")))
    assert done.segments[0].buttons == rows


@pytest.mark.parametrize("language", Language)
async def test_every_button_of_every_menu_says_itself(language: Language) -> None:
    """What its words are understood as is what the button does elsewhere."""
    person = PersonSettings(language, "America/Argentina/Ushuaia")
    asked_for = [Command("settings", name) for name in ("", *WORDED_MENU)]
    asked_for += [Command("start"), Command("delete_me")]
    seen = set()
    for command in asked_for:
        shown = buttons(await run_command(asking(command, person=person)))
        assert shown
        seen |= {button.command for button in shown}
    for name in OPTIONS:
        for value in OPTIONS[name]:
            words = words_for(f"settings {name}={value}", PHRASES[language], "：")
            assert words is not None
            assert not re.search(r"\s", words)
            assert command_in_words(words) == Command("settings", f"{name} {value}")
    commands = [command_in_words(words) for words in seen]
    assert None not in commands
    wanted = {Command("settings"), *(Command("settings", name) for name in WORDED_MENU)}
    wanted |= {
        Command("settings", f"{name} {value}")
        for name in WORDED_MENU
        for value in OPTIONS[name]
        if (name, value) not in {("language", language.value), ("wait", "normal")}  # ticked: says nothing new
    }
    wanted |= {Command(*command.split()) for command in ANSWERS}
    assert set(commands) == wanted


@given(
    st.sampled_from(Language), st.sampled_from(sorted(OPTIONS)), st.data(), st.sampled_from(["：", ":", " "])
)
def test_words_for_a_value_are_understood_as_it(
    language: Language, name: str, data: st.DataObject, between: str
) -> None:
    raw = data.draw(st.sampled_from(OPTIONS[name]))
    words = words_for(f"settings {name}={raw}", PHRASES[language], between)
    assert words is not None
    assert command_in_words(words) == Command("settings", f"{name} {raw}")


async def test_buttons_as_words_look_like_this() -> None:
    zh = [button.command for button in buttons(await says("设置 语言"))]
    assert zh == ["设置：语言", "设置：语言：中文", "设置：语言：English", "设置"]
    en = [button.command for button in buttons(await says("settings wait"))]
    assert en == ["settings:wait:off", "settings:wait", "settings:wait:long", "settings"]
    zones = [button.command for button in buttons(await says("设置 时区"))]
    assert zones[:3] == ["设置：时区", "设置：时区：香港", "设置：时区：台北"]
    assert [button.command for button in buttons(await says("开始使用"))] == ["可以，开始吧", "不要存我的话"]


@pytest.mark.parametrize("language", Language)
async def test_the_menu_offers_what_has_an_effect_there(language: Language) -> None:
    person = PersonSettings(language)
    menu = await says("设置", person=person)
    settings = [command_in_words(button.command) for button in buttons(menu)]
    assert settings == [Command("settings", name) for name in ("language", "timezone", "wait")]
    for name in set(OPTIONS) - set(WORDED_MENU):
        done = await says(f"设置 {name} {OPTIONS[name][-1]}", person=person)
        assert done.effect is None
        assert done.segments == menu.segments


@pytest.mark.parametrize(
    "text", ["设置 persona night", "settings channels 7", "设置 谁陪你说话 夜灯", "设置：每句都接的频道"]
)
def test_what_is_no_setting_there_is_talk(text: str) -> None:
    assert command_in_words(text) is None


async def test_typed_with_a_slash_it_is_answered_by_the_menu_and_changes_nothing() -> None:
    menu = await says("/settings")
    for text in (
        "/settings persona night",
        "/settings persona=night",
        "/settings channels 7",
        "/settings hourly 10",
    ):
        done = await says(text)
        assert (done.effect, done.segments) == (None, menu.segments)


async def test_setting_by_words_sets_and_goes_on_in_the_new_language() -> None:
    done = await says("设置：语言：英文")
    assert done.effect is not None
    (menu,) = done.segments
    assert menu.replaces is None
    assert menu.text == PHRASES[Language.EN].commands["settings"]["private"]
    assert [button.command for button in buttons(done)] == [
        "settings:language",
        "settings:timezone",
        "settings:wait",
    ]


async def test_a_wrong_value_is_told_in_words() -> None:
    assert "「设置 语言 中文」" in await told("设置 语言 法语")
    assert "“settings language English”" in await told("settings language fr")
    assert "「设置 时区 Asia/Kolkata」" in await told("设置 时区")


@pytest.mark.parametrize("language", Language)
async def test_help_lists_the_words(language: Language) -> None:
    text = await told("帮助", person=PersonSettings(language))
    quoted = re.findall(r"[「“](.+?)[」”]", text)
    listed = [name for name in (*COMMANDS, *IN_WORDS_ONLY) if name != "help"]
    assert [command_in_words(words) for words in quoted] == [Command(name) for name in listed]
    means = PHRASES[language].commands["menu_in_words"]
    assert means["more"] in text and means["settings"] in text


async def test_help_elsewhere_knows_nothing_of_words() -> None:
    for platform in set(Platform) - WORDED:
        (segment,) = (await run_command(asking(Command("help"), platform=platform))).segments
        offered = (*COMMANDS, *IN_FORMS_ONLY) if platform in FORMED else COMMANDS
        means = PHRASES[Language.ZH].commands["menu"] | PHRASES[Language.ZH].commands["menu_in_forms"]
        told = [f"/{name} {means[name]}" for name in offered if name != "help"]
        assert [line for line in segment.text.splitlines() if line.startswith("/")] == told


@pytest.mark.parametrize("language", Language)
async def test_no_text_there_has_a_slash_command(language: Language) -> None:
    person = PersonSettings(language)
    said = [await told(word, person=person) for name, (word, *_) in COMMON.items() if name != "export"]
    said += [await told(f"设置 {name}{value}", person=person) for name in WORDED_MENU for value in ("", " ?")]
    said += [await told(word, person=person) for words in ANSWERS.values() for word in words]
    for text in said:
        assert not re.search(r"(?<![A-Za-z])/[a-z]", text), text


@pytest.mark.parametrize(
    ("text", "chosen", "language"),
    [
        ("settings", None, Language.EN),
        ("设置", None, Language.ZH),
        ("设置：语言：English", Language.ZH, Language.ZH),
        ("settings", Language.ZH, Language.ZH),
        ("设置", Language.EN, Language.EN),
        ("/settings", None, Language.ZH),
    ],
)
async def test_words_are_answered_in_their_language(
    text: str, chosen: Language | None, language: Language
) -> None:
    command = command_in_words(text)
    assert command is not None
    asked = asking(Command("settings"), text, person=PersonSettings(chosen))
    (menu,) = (await run_command(asked)).segments
    assert menu.text == PHRASES[language].commands["settings"]["private"]
