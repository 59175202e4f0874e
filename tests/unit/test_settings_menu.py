"""/settings: a menu of buttons that changes in place, or typed; and what the settings mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.commands.asked import ARGUMENT_CHARACTERS, Asked, Done, command_of
from core.commands.run import run_command
from core.commands.settings import GROUP_MENU, OPTIONS, PRIVATE_MENU
from core.errors import ChatGoesOn, DeliveryFailed, RecipientGone
from core.language import Language
from core.messages import Command, ConversationKind, IncomingMessage, Platform, Segment
from core.phrases import load_phrases
from core.ports import ClaimedConversation, Pending, Store, Transaction
from core.settings import ConversationSettings, GroupAnswers, PersonSettings, QuietHours, ReplyStyle

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
PHRASES = load_phrases()
T = TypeVar("T")


class NoStore:
    """Settings are read with the conversation and written in the turn's own commit."""

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        raise AssertionError("settings are written in the turn's own commit")

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        raise AssertionError("settings are read with the conversation")


@dataclass
class Written:
    """What an effect writes: stands for a transaction's people and conversations."""

    person: list[tuple[int, PersonSettings]] = field(default_factory=list)
    place: list[tuple[int, ConversationSettings]] = field(default_factory=list)

    @property
    def people(self) -> _Rows:
        return _Rows(self.person)

    @property
    def conversations(self) -> _Rows:
        return _Rows(self.place)


@dataclass
class _Rows:
    found: list[Any]

    def update_settings(self, id_: int, settings: Any) -> None:
        self.found.append((id_, settings))


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
    may_manage: Any = anybody,
) -> Asked:
    command = Command(name, argument, pressed_on)
    message = IncomingMessage(Platform.TELEGRAM, "e", "chat", "ann", "", NOW, kind=kind, command=command)
    by = Pending(11, 22, NOW, message)
    conversation = ClaimedConversation(
        id=33,
        platform=Platform.TELEGRAM,
        chat_id="chat",
        kind=kind,
        settings=place,
        person=person,
        paused=False,
        preview_message_id=None,
        attempts=1,
        pending=(by,),
        deferred=(),
        window=(),
    )
    store: Store = NoStore()
    return Asked(command, conversation, by, language, PHRASES, NOW, "Asia/Shanghai", store, may_manage)


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
    return [button.label for row in segment.buttons for button in row]


def commands(segment: Segment) -> list[str]:
    return [button.command for row in segment.buttons for button in row]


# --- the menu -----------------------------------------------------------------------------------


async def test_the_private_menu_tells_how_things_are() -> None:
    menu = await only()
    assert labels(menu) == [
        "语言 · 跟着你",
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
    place = ConversationSettings(3.0, 15.0, style=ReplyStyle.BUBBLES, feedback=True)
    menu = await only(person=person, place=place, language=Language.EN)
    assert [label.partition(" · ")[2] for label in labels(menu)] == [
        "English",
        "America/Argentina/Ushuaia",
        "21-6",
        "a few short ones",
        "a good while",
        "yes",
    ]


async def test_the_groups_menu_has_nothing_of_a_persons() -> None:
    menu = await only(kind=ConversationKind.GROUP)
    assert labels(menu) == ["什么时候说话 · 叫我的时候", "回复方式 · 随心语", "等你打完 · 等一小会儿"]
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
    for value, (label, command) in zip(OPTIONS[name], told[:-1], strict=True):
        assert command == (f"settings {name}" if label.startswith("✓ ") else f"settings {name}={value}")
    assert sum(label.startswith("✓ ") for label in labels(options)) == 1
    assert all(len(row) <= 2 for row in options.buttons)
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
    value = data.draw(st.sampled_from(OPTIONS[name]))
    done = await run(f"{name}={value}", pressed_on="5")
    menu = done.segments[0]
    assert (menu.replaces, commands(menu)) == ("5", [f"settings {name}" for name in PRIVATE_MENU])
    found = written(done)
    assert len(found.person) + len(found.place) == 1
    person = found.person[0][1] if found.person else PersonSettings()
    place = found.place[0][1] if found.place else ConversationSettings()
    options = await only(name, person=person, place=place)
    ticked = [label.startswith("✓ ") for label in labels(options)].index(True)
    assert OPTIONS[name][ticked] == value


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
        *("language fr", "style loud", "wait forever", "feedback maybe"),
    ],
)
async def test_a_wrong_value_changes_nothing_and_says_what_would_be_right(argument: str) -> None:
    done = await run(argument)
    name = argument.split()[0]
    assert done.segments == (Segment(PHRASES[Language.ZH].commands["no_such_value"][name]),)
    assert written(done) == Written()


@given(st.sampled_from([*PRIVATE_MENU, *GROUP_MENU, ""]), st.text(max_size=ARGUMENT_CHARACTERS))
async def test_whatever_is_typed_is_answered(name: str, value: str) -> None:
    command = command_of(f"/settings {name} {value}")
    assert command is not None
    for kind in ConversationKind:
        done = await run(command.argument, kind=kind)
        assert all(segment.text for segment in done.segments)
        found = written(done)
        assert len(found.person) + len(found.place) <= 1


@pytest.mark.parametrize("argument", ["", "what", "answers always", "answers", "Language"])
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


async def test_a_person_does_not_set_their_own_in_a_group() -> None:
    done = await run("language en", kind=ConversationKind.GROUP)
    assert commands(done.segments[0]) == [f"settings {name}" for name in GROUP_MENU]
    assert written(done) == Written()


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
