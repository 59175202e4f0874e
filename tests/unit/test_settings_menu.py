"""/settings: a menu of buttons that changes in place, or typed; and what the settings mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.commands.asked import ARGUMENT_CHARACTERS, Asked, Done, command_of
from core.commands.run import run_command
from core.commands.settings import (
    GROUP_MENU,
    MOST_CHANNELS,
    OPTIONS,
    PRIVATE_MENU,
    SERVER_ANSWERS,
    SERVER_MENU,
)
from core.errors import ChatGoesOn, DeliveryFailed, RecipientGone
from core.language import Language
from core.messages import ChannelPicker, Command, ConversationKind, IncomingMessage, Platform, Segment
from core.persona.card import load_personas
from core.phrases import load_phrases
from core.ports import ClaimedConversation, Pending, Store, Transaction
from core.settings import ConversationSettings, GroupAnswers, PersonSettings, QuietHours, ReplyStyle

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PHRASES = load_phrases()
PERSONAS = load_personas()
CHOICES = {**OPTIONS, "persona": tuple(card.id for card in PERSONAS.cards)}
T = TypeVar("T")


class NoStore:
    """Settings are read with the conversation and written in the turn's own commit."""

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        raise AssertionError("settings are written in the turn's own commit")

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        raise AssertionError("settings are read with the conversation")


@dataclass
class Written:
    """What an effect writes: stands for a transaction's people, conversations and inbox."""

    person: list[tuple[int, PersonSettings]] = field(default_factory=list)
    place: list[tuple[int, ConversationSettings]] = field(default_factory=list)
    told: list[IncomingMessage] = field(default_factory=list)
    """What is asked of the bot elsewhere by it."""

    @property
    def people(self) -> _Rows:
        return _Rows(self.person)

    @property
    def conversations(self) -> _Rows:
        return _Rows(self.place)

    @property
    def inbox(self) -> _Told:
        return _Told(self.told)


@dataclass
class _Rows:
    found: list[Any]

    def update_settings(self, id_: int, settings: Any) -> None:
        self.found.append((id_, settings))


@dataclass
class _Told:
    found: list[IncomingMessage]

    def add(self, messages: Sequence[IncomingMessage], now: datetime) -> None:
        assert now == NOW
        self.found.extend(messages)


async def anybody(chat_id: str, user_id: str) -> bool:
    assert (chat_id, user_id) == ("chat", "ann")
    return True


async def nobody(chat_id: str, user_id: str) -> bool:
    return False


def asking(
    argument: str = "",
    *,
    name: str = "settings",
    pressed_on: str | None = None,
    kind: ConversationKind = ConversationKind.PRIVATE,
    person: PersonSettings = PersonSettings(),
    place: ConversationSettings = ConversationSettings(),
    language: Language = Language.ZH,
    own: ConversationSettings | None = None,
    may_manage: Any = anybody,
    platform: Platform = Platform.TELEGRAM,
    chat: str = "chat",
    **more: Any,
) -> Asked:
    """`place`: what holds there. `own`: what is set for that very place; None: all of it."""
    command = Command(name, argument, pressed_on)
    message = IncomingMessage(platform, "e", chat, "ann", "", NOW, kind=kind, command=command, **more)
    by = Pending(11, 22, NOW, message)
    conversation = ClaimedConversation(
        id=33,
        platform=platform,
        chat_id=chat,
        kind=kind,
        settings=place,
        own_settings=place if own is None else own,
        person=person,
        paused=False,
        preview_message_id=None,
        attempts=1,
        pending=(by,),
        deferred=(),
        window=(),
    )
    store: Store = NoStore()
    return Asked(
        command, conversation, by, language, PHRASES, PERSONAS, NOW, "Asia/Shanghai", store, may_manage
    )


async def run(argument: str = "", **more: Any) -> Done:
    return await run_command(asking(argument, **more))


async def only(argument: str = "", **more: Any) -> Segment:
    (segment,) = (await run(argument, **more)).segments
    return segment


def written(done: Done) -> Written:
    found = Written()
    if done.effect is not None:
        done.effect(cast(Transaction, found))
    return found


async def person_after(argument: str, **more: Any) -> PersonSettings | None:
    """The person's settings that are written; None: nothing is."""
    found = written(await run(argument, **more)).person
    assert all(user_id == 22 for user_id, _ in found)
    return found[0][1] if found else None


async def place_after(argument: str, **more: Any) -> ConversationSettings | None:
    found = written(await run(argument, **more)).place
    assert all(conversation_id == 33 for conversation_id, _ in found)
    return found[0][1] if found else None


def labels(segment: Segment) -> list[str]:
    return [button.label for row in segment.rows for button in row]


def commands(segment: Segment) -> list[str]:
    return [button.command for row in segment.rows for button in row]


# --- the menu -----------------------------------------------------------------------------------


async def test_the_private_menu_tells_how_things_are() -> None:
    menu = await only()
    assert labels(menu) == [
        "语言 · 跟着你",
        "谁陪你说话 · 心语 · 愿意倾听的陪伴者",
        "时区 · 北京 / 上海",
        "安静时段 · 不用",
        "回复方式 · 随心语",
        "等你打完 · 等一小会儿",
        "评价按钮 · 不要",
    ]
    assert commands(menu) == [f"settings {name}" for name in PRIVATE_MENU]
    assert menu.replaces is None


async def test_the_menu_tells_what_was_chosen() -> None:
    person = PersonSettings(Language.EN, "America/Argentina/Ushuaia", QuietHours(21, 6))
    place = ConversationSettings(3.0, 15.0, style=ReplyStyle.BUBBLES, feedback=True, persona="night")
    menu = await only(person=person, place=place, language=Language.EN)
    assert [label.partition(" · ")[2] for label in labels(menu)] == [
        "English",
        "Nightlight · company for sleepless nights",
        "America/Argentina/Ushuaia",
        "21-6",
        "a few short ones",
        "a good while",
        "yes",
    ]


async def test_the_groups_menu_has_nothing_of_a_persons() -> None:
    menu = await only(kind=ConversationKind.GROUP)
    assert labels(menu) == [
        "什么时候说话 · 叫我的时候",
        "谁陪你说话 · 心语 · 愿意倾听的陪伴者",
        "语言 · 跟着你",
        "回复方式 · 随心语",
        "等你打完 · 等一小会儿",
    ]
    assert commands(menu) == [f"settings {name}" for name in GROUP_MENU]


@pytest.mark.parametrize("name", PRIVATE_MENU)
async def test_each_private_setting_has_its_options_with_one_tick(name: str) -> None:
    await _check_options(name, await only(name, pressed_on="5"))


@pytest.mark.parametrize("name", GROUP_MENU)
async def test_each_setting_of_a_group_has_its_options_with_one_tick(name: str) -> None:
    await _check_options(name, await only(name, pressed_on="5", kind=ConversationKind.GROUP))


async def _check_options(name: str, options: Segment) -> None:
    assert options.replaces == "5"
    told = list(zip(labels(options), commands(options), strict=True))
    assert told[-1][1] == "settings"
    for value, (label, command) in zip(CHOICES[name], told[:-1], strict=True):
        assert command == (f"settings {name}" if label.startswith("✓ ") else f"settings {name}={value}")
    assert sum(label.startswith("✓ ") for label in labels(options)) == 1
    assert [choice.chosen for choice in options.choices].count(True) == 1
    assert len(options.choices) == len(CHOICES[name])
    assert not any(button.asks for row in options.rows for button in row), "nobody can be asked here"
    assert all(len(row) <= 2 for row in options.rows)
    assert written(await run(name)) == Written()


async def test_the_tick_is_at_what_holds() -> None:
    person = PersonSettings(quiet_hours=QuietHours(22, 7))
    assert labels(await only("quiet", person=person)) == [
        "不用",
        "✓ 22 点到 7 点",
        "23 点到 8 点",
        "0 点到 9 点",
        "‹ 返回",
    ]


async def test_a_value_of_ones_own_is_offered_too() -> None:
    options = await only("quiet", person=PersonSettings(quiet_hours=QuietHours(21, 6)))
    assert labels(options)[-2:] == ["✓ 21-6", "‹ 返回"]
    zones = await only("timezone", person=PersonSettings(time_zone="Asia/Kolkata"))
    assert labels(zones)[-2:] == ["✓ Asia/Kolkata", "‹ 返回"]


@given(st.sampled_from(PRIVATE_MENU), st.data())
async def test_pressing_an_option_ticks_it(name: str, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(CHOICES[name]))
    done = await run(f"{name}={value}", pressed_on="5")
    menu = done.segments[0]
    assert (menu.replaces, commands(menu)) == ("5", [f"settings {name}" for name in PRIVATE_MENU])
    found = written(done)
    assert len(found.person) + len(found.place) == 1
    assert found.told == []
    person = found.person[0][1] if found.person else PersonSettings()
    place = found.place[0][1] if found.place else ConversationSettings()
    options = await only(name, person=person, place=place)
    ticked = [label.startswith("✓ ") for label in labels(options)].index(True)
    assert CHOICES[name][ticked] == value


async def test_the_menu_that_follows_tells_the_new_value() -> None:
    assert "回复方式 · 分成几条" in labels(await only("style bubbles"))


# --- typed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["language en", "language=en", "language  en", "language = en"])
async def test_typing_a_value_sets_it(argument: str) -> None:
    assert await person_after(argument) == PersonSettings(language=Language.EN)


async def test_only_what_was_named_is_changed() -> None:
    consented = PersonSettings(Language.EN, "Asia/Tokyo", QuietHours(1, 2), NOW)
    assert await person_after("language auto", person=consented) == replace(consented, language=None)
    assert await person_after("quiet off", person=consented) == replace(consented, quiet_hours=None)
    place = ConversationSettings(3.0, 15.0, GroupAnswers.OFF, ReplyStyle.WHOLE, True)
    assert await place_after("style auto", place=place) == replace(place, style=None)
    assert await place_after("feedback off", place=place) == replace(place, feedback=False)
    normal = replace(place, burst_quiet_seconds=None, burst_max_seconds=None)
    assert await place_after("wait normal", place=place) == normal
    off = replace(place, burst_quiet_seconds=0.0, burst_max_seconds=0.0)
    assert await place_after("wait off", place=place) == off


@pytest.mark.parametrize(
    ("typed", "hours"),
    [
        ("23-8", QuietHours(23, 8)),
        ("0-9", QuietHours(0, 9)),
        ("9 - 17", QuietHours(9, 17)),
        ("09-17", QuietHours(9, 17)),
        ("22到7", QuietHours(22, 7)),
        ("22 至 7", QuietHours(22, 7)),
        ("22–7", QuietHours(22, 7)),
        ("22~7", QuietHours(22, 7)),
        ("22-24", QuietHours(22, 0)),
        ("22-0", QuietHours(22, 0)),
    ],
)
async def test_quiet_hours_as_people_write_them(typed: str, hours: QuietHours) -> None:
    assert await person_after(f"quiet {typed}") == PersonSettings(quiet_hours=hours)


@pytest.mark.parametrize("typed", ["off", "OFF", "no", "关"])
async def test_quiet_hours_end(typed: str) -> None:
    person = PersonSettings(quiet_hours=QuietHours(1, 2))
    assert await person_after(f"quiet {typed}", person=person) == PersonSettings()


@pytest.mark.parametrize(
    "argument",
    [
        *("quiet 25-8", "quiet 8", "quiet 8-8", "quiet 0-24", "quiet -1-5", "quiet 8-25", "quiet 晚上"),
        *("timezone Mars/Olympus", "timezone ../../etc/passwd", "timezone /etc/localtime", "timezone UTC+8"),
        *("language fr", "style loud", "wait forever", "feedback maybe", "persona nobody", "persona XinYu"),
    ],
)
async def test_a_wrong_value_changes_nothing_and_says_what_would_be_right(argument: str) -> None:
    done = await run(argument)
    name = argument.split()[0]
    assert done.segments == (Segment(PHRASES[Language.ZH].commands["no_such_value"][name]),)
    assert written(done) == Written()


@given(st.sampled_from([*PRIVATE_MENU, *GROUP_MENU, *SERVER_MENU, ""]), st.text(max_size=ARGUMENT_CHARACTERS))
async def test_whatever_is_typed_is_answered(name: str, value: str) -> None:
    command = command_of(f"/settings {name} {value}")
    assert command is not None
    for kind, platform in product(ConversationKind, (Platform.TELEGRAM, Platform.DISCORD)):
        done = await run(command.argument, kind=kind, platform=platform)
        assert all(segment.text for segment in done.segments)
        found = written(done)
        assert len(found.person) + len(found.place) <= 1


@pytest.mark.parametrize(
    "argument", ["", "what", "answers always", "answers", "Language", "hourly 10", "channels 1"]
)
async def test_what_is_no_setting_here_shows_the_menu(argument: str) -> None:
    done = await run(argument)
    assert commands(done.segments[0]) == [f"settings {name}" for name in PRIVATE_MENU]
    assert written(done) == Written()


@given(st.sampled_from(sorted(available_timezones())), st.sampled_from([str, str.lower, str.upper]))
async def test_time_zones_whatever_their_letters_case(zone: str, spelled: Callable[[str], str]) -> None:
    chosen = await person_after(f"timezone {spelled(zone).replace('_', ' ')}")
    assert chosen is not None
    assert chosen.time_zone is not None
    assert chosen.time_zone.lower() == zone.lower()
    assert ZoneInfo(chosen.time_zone)


# --- in groups ----------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["", "answers", "answers always"])
async def test_in_a_group_only_its_admins_get_at_the_settings(argument: str) -> None:
    done = await run(argument, kind=ConversationKind.GROUP, may_manage=nobody)
    assert done.segments == (Segment("这个得请群管理员来改。"),)
    assert written(done) == Written()


@pytest.mark.parametrize("value", OPTIONS["answers"])
async def test_an_admin_decides_when_the_bot_speaks(value: str) -> None:
    place = await place_after(f"answers {value}", kind=ConversationKind.GROUP)
    assert place == ConversationSettings(answers=GroupAnswers(value))


@pytest.mark.parametrize("argument", ["timezone Asia/Tokyo", "quiet 22-7", "feedback on"])
async def test_a_person_does_not_set_their_own_in_a_group(argument: str) -> None:
    done = await run(argument, kind=ConversationKind.GROUP)
    assert commands(done.segments[0]) == [f"settings {name}" for name in GROUP_MENU]
    assert written(done) == Written()


async def test_a_groups_language_is_the_groups_and_no_persons() -> None:
    person = PersonSettings(language=Language.ZH)
    done = await run("language en", kind=ConversationKind.GROUP, person=person)
    assert written(done) == Written(place=[(33, ConversationSettings(language=Language.EN))])
    assert done.language is Language.EN
    assert done.segments[0].text == PHRASES[Language.EN].commands["settings"]["group"]
    assert "Language · English" in labels(done.segments[0])
    again = await run(
        "language auto", kind=ConversationKind.GROUP, place=ConversationSettings(language=Language.EN)
    )
    assert written(again) == Written(place=[(33, ConversationSettings())])
    assert again.language is None


async def test_in_a_group_that_is_to_be_heard_out_everybody_is_told() -> None:
    done = await run("answers always", kind=ConversationKind.GROUP)
    assert done.segments[1:] == (
        Segment(PHRASES[Language.ZH].commands["settings"]["always"].format(settings="/settings")),
    )
    always = ConversationSettings(answers=GroupAnswers.ALWAYS)
    for argument in ("answers always", "style whole"):
        again = await run(argument, kind=ConversationKind.GROUP, place=always)
        assert len(again.segments) == 1, "they know"


async def test_only_what_the_place_itself_sets_is_written() -> None:
    holds = ConversationSettings(answers=GroupAnswers.OFF, persona="night", language=Language.ZH, hourly=10)
    own = ConversationSettings(persona="night")
    at: dict[str, Any] = {
        "kind": ConversationKind.GROUP,
        "chat": "1/2",
        "platform": Platform.DISCORD,
        "manages": True,
    }
    done = await run("style bubbles", place=holds, own=own, **at)
    assert written(done).place == [(33, replace(own, style=ReplyStyle.BUBBLES))]
    assert labels(done.segments[0])[:3] == [
        "什么时候说话 · 只理命令",
        "谁陪你说话 · 夜灯 · 睡不着的时候，陪你到天亮",
        "语言 · 中文",
    ], "what holds is told, whoever set it"


# --- where groups have channels -----------------------------------------------------------------

SERVER: dict[str, Any] = {
    "kind": ConversationKind.GROUP,
    "platform": Platform.DISCORD,
    "chat": "1",
    "manages": True,
}


async def test_the_servers_menu_is_of_what_holds_in_all_of_its_channels() -> None:
    menu = await only(**SERVER)
    assert labels(menu) == [
        "什么时候说话 · 叫我的时候",
        "每句都接的频道 · 没有",
        "谁陪你说话 · 心语 · 愿意倾听的陪伴者",
        "语言 · 跟着你",
        "每人每小时最多 · 不限",
    ]
    assert commands(menu) == [f"settings {name}" for name in SERVER_MENU]
    assert menu.text == PHRASES[Language.ZH].commands["settings"]["server"]
    chosen = ConversationSettings(channels=("7", "8"), hourly=30)
    assert {"每句都接的频道 · 2 个", "每人每小时最多 · 30 次"} <= set(
        labels(await only(place=chosen, **SERVER))
    )


@pytest.mark.parametrize("chat", ["1/2", "1/2/3"])
async def test_a_channels_menu_is_as_any_groups(chat: str) -> None:
    menu = await only(**{**SERVER, "chat": chat})
    assert commands(menu) == [f"settings {name}" for name in GROUP_MENU]
    assert menu.text == PHRASES[Language.ZH].commands["settings"]["group"]


@pytest.mark.parametrize("name", [name for name in SERVER_MENU if name != "channels"])
async def test_each_setting_of_a_server_has_its_options_and_one_that_stands(name: str) -> None:
    options = await only(name, pressed_on="5", **SERVER)
    values = SERVER_ANSWERS if name == "answers" else CHOICES[name]
    assert options.replaces == "5"
    assert [choice.chosen for choice in options.choices] == [True, *[False] * (len(values) - 1)]
    assert [choice.command for choice in options.choices] == [
        f"settings {name}",
        *(f"settings {name}={value}" for value in values[1:]),
    ]
    assert [button.command for row in options.buttons for button in row] == ["settings"]


async def test_a_whole_server_is_not_heard_out() -> None:
    done = await run("answers always", **SERVER)
    assert done.segments == (Segment(PHRASES[Language.ZH].commands["no_such_value"]["answers"]),)
    assert written(done) == Written()
    one = await run("answers always", **{**SERVER, "chat": "1/2"})
    assert written(one).place == [(33, ConversationSettings(answers=GroupAnswers.ALWAYS))]
    assert "/xinyu setup" in one.segments[1].text


async def test_channels_are_picked_from_the_platforms_own_list() -> None:
    options = await only(
        "channels", pressed_on="5", place=ConversationSettings(channels=("7", "8")), **SERVER
    )
    assert options.picker == ChannelPicker(
        "选频道，可以多选；一个都不选就是不设", "settings channels", ("7", "8")
    )
    assert (options.replaces, options.choices, commands(options)) == ("5", (), ["settings"])


async def test_in_each_channel_newly_set_aside_everybody_is_told() -> None:
    before = ConversationSettings(channels=("7", "8"), hourly=30)
    done = await run(
        "channels 8,9,10,9", place=before, pressed_on="5", message_id="5", response="token", **SERVER
    )
    assert len(done.segments) == 1, "who set it knows"
    found = written(done)
    assert found.place == [(33, replace(before, channels=("8", "9", "10")))]
    assert [one.chat_id for one in found.told] == ["1/9", "1/10"]
    assert len({one.event_id for one in found.told} | {"e"}) == 3
    for one in found.told:
        assert (one.command, one.kind, one.platform) == (
            Command("listening"),
            ConversationKind.GROUP,
            Platform.DISCORD,
        )
        assert (one.message_id, one.response) == (None, None), "it answers nothing there"


@pytest.mark.parametrize("value", ["none", "7"])
async def test_a_channel_that_is_given_back_is_told_nothing(value: str) -> None:
    done = await run(f"channels {value}", place=ConversationSettings(channels=("7", "8")), **SERVER)
    channels = () if value == "none" else ("7",)
    assert written(done) == Written(place=[(33, ConversationSettings(channels=channels))])


@pytest.mark.parametrize(
    "value",
    ["general", "7,", ",7", "7;8", "7/8", "-7", "٧", "1" * 21, ",".join(map(str, range(MOST_CHANNELS + 1)))],
)
async def test_what_are_no_channels_sets_none_aside(value: str) -> None:
    done = await run(f"channels {value}", **SERVER)
    assert done.segments == (Segment(PHRASES[Language.ZH].commands["no_such_value"]["channels"]),)
    assert written(done) == Written()


async def test_as_many_channels_as_the_platforms_list_gives_are_taken() -> None:
    ids = tuple(str(number) for number in range(MOST_CHANNELS))
    assert written(await run(f"channels {','.join(ids)}", **SERVER)).place == [
        (33, ConversationSettings(channels=ids))
    ]


async def test_what_is_told_in_a_channel_names_the_way_to_the_settings() -> None:
    (told,) = (await run(name="listening", **{**SERVER, "chat": "1/9"})).segments
    assert told == Segment(
        PHRASES[Language.ZH].commands["settings"]["always"].format(settings="/xinyu setup")
    )


@pytest.mark.parametrize(("value", "hourly"), [("30", 30), ("10", 10), ("off", None)])
async def test_how_often_one_person_is_answered_within_an_hour(value: str, hourly: int | None) -> None:
    done = await run(f"hourly {value}", place=ConversationSettings(hourly=7), **SERVER)
    assert written(done) == Written(place=[(33, ConversationSettings(hourly=hourly))])


@pytest.mark.parametrize("value", ["0", "-1", "11", "always"])
async def test_another_number_than_offered_changes_nothing(value: str) -> None:
    done = await run(f"hourly {value}", **SERVER)
    assert done.segments == (Segment(PHRASES[Language.ZH].commands["no_such_value"]["hourly"]),)
    assert written(done) == Written()


@pytest.mark.parametrize("name", ["timezone", "quiet"])
async def test_where_a_form_can_ask_a_value_of_ones_own_is_asked_for(name: str) -> None:
    options = await only(name, platform=Platform.DISCORD)
    ((other, back),) = options.buttons
    texts = PHRASES[Language.ZH].commands
    assert (other.command, other.asks, back.command) == (f"settings {name}", texts["ask"][name], "settings")
    assert options.text == texts["about_form"][name]
    assert not re.search(r"(?<!\w)/[a-z]", options.text), "nothing is typed there"


async def test_what_the_platform_says_of_a_sender_is_believed() -> None:
    async def never(chat_id: str, user_id: str) -> bool:
        raise AssertionError("the platform said it already")

    group: dict[str, Any] = {"kind": ConversationKind.GROUP, "may_manage": never}
    refused = await run("style whole", manages=False, **group)
    assert refused.segments == (Segment("这个得请群管理员来改。"),)
    assert written(refused) == Written()
    done = await run("style whole", manages=True, **group)
    assert written(done).place == [(33, ConversationSettings(style=ReplyStyle.WHOLE))]


# --- in groups, in trouble ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [DeliveryFailed("flood"), RecipientGone(), ChatGoesOn("-1005"), TimeoutError()],
    ids=lambda trouble: type(trouble).__name__,
)
async def test_where_it_cannot_be_found_out_nothing_is_changed(trouble: Exception) -> None:
    async def unknown(chat_id: str, user_id: str) -> bool:
        raise trouble

    done = await run("answers always", kind=ConversationKind.GROUP, may_manage=unknown)
    assert done.segments == (Segment("我这会儿没能确认你是不是管理员，过一会儿再试一次吧。"),)
    assert written(done) == Written()


@pytest.mark.parametrize("name", ["reset", "pause", "resume"])
async def test_what_changes_a_group_is_for_its_admins(name: str) -> None:
    done = await run(name=name, kind=ConversationKind.GROUP, may_manage=nobody)
    assert done.segments == (Segment("这个得请群管理员来改。"),)
    assert done.effect is None


@pytest.mark.parametrize("name", ["export", "delete_me"])
async def test_what_is_private_is_not_done_in_a_group(name: str) -> None:
    done = await run("yes", name=name, pressed_on="5", kind=ConversationKind.GROUP)
    assert done.segments == (Segment("这个要私下跟我说，点开我的头像就能单独聊。"),)
    assert done.effect is None


# --- quiet hours --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "quiet"),
    [
        (QuietHours(22, 7), [22, 23, 0, 1, 2, 3, 4, 5, 6]),
        (QuietHours(0, 9), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (QuietHours(22, 0), [22, 23]),
        (QuietHours(13, 14), [13]),
    ],
)
def test_quiet_hours_hold_until_the_last_begins(hours: QuietHours, quiet: list[int]) -> None:
    assert [hour for hour in range(24) if hours.hold(hour)] == sorted(quiet)


@given(st.integers(0, 23), st.integers(0, 23))
def test_there_and_back_they_make_up_the_day(since: int, until: int) -> None:
    if since == until:
        return
    there, back = QuietHours(since, until), QuietHours(until, since)
    assert all(there.hold(hour) is not back.hold(hour) for hour in range(24))
    assert there.hold(since)
    assert not there.hold(until)


@pytest.mark.parametrize(
    ("zone", "utc_hour", "quiet"),
    [
        ("Asia/Shanghai", 14, True),  # 22:00
        ("Asia/Shanghai", 13, False),
        ("Asia/Shanghai", 22, True),  # 6:00
        ("Asia/Shanghai", 23, False),
        ("America/New_York", 2, True),  # 22:00 in summer
        ("America/New_York", 1, False),
        (None, 20, True),  # the operator's: Europe/London, 21:00 and 22:00
        (None, 21, True),
    ],
)
def test_it_is_the_persons_own_hour_that_counts(zone: str | None, utc_hour: int, quiet: bool) -> None:
    hours = QuietHours(22, 7) if zone else QuietHours(21, 23)
    person = PersonSettings(time_zone=zone, quiet_hours=hours)
    assert person.is_quiet(NOW.replace(hour=utc_hour), "Europe/London") is quiet


def test_summer_time_moves_the_hour() -> None:
    person = PersonSettings(time_zone="America/New_York", quiet_hours=QuietHours(22, 7))
    assert not person.is_quiet(datetime(2026, 1, 15, 2, 30, tzinfo=UTC), "UTC")  # 21:30
    assert person.is_quiet(datetime(2026, 7, 15, 2, 30, tzinfo=UTC), "UTC")  # 22:30


def test_without_quiet_hours_it_is_never_quiet() -> None:
    assert not PersonSettings(time_zone="Asia/Tokyo").is_quiet(NOW, "UTC")
