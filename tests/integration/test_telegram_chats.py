"""What people do in Telegram beside writing: edits, albums, groups, topics, buttons, reactions, leaving. The real
program and the real library over loopback, against a strict fake of the Bot API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.companion import rows, until
from tests.fakes.model_server import Answer
from tests.telegram_world import World, new_person, webhook_settings, world_in

one_loop = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.xdist_group("telegram-chats")
FILE = {"file_id": "F", "file_unique_id": "U"}
PHOTO = {"photo": [{**FILE, "width": 90, "height": 90}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_in(tmp_path_factory.mktemp("chats"), webhook_settings()) as world:
        await world.program.start()
        await world.api.wait_until(lambda: world.api.webhook_url is not None)
        yield world


def group() -> int:
    return -1_000_000 - new_person()


def asked(world: World) -> str:
    """What the model was last asked, the person's side of it."""
    said: str = world.model.requests[-1]["messages"][-1]["content"]
    return said


async def all_taken(world: World) -> None:
    await world.api.wait_until(lambda: world.api.pending_count == 0)


# --- edits and albums -----------------------------------------------------------------------


@one_loop
async def test_a_message_that_waits_is_answered_as_it_was_changed(world: World) -> None:
    person = new_person()
    world.model.gate.clear()
    update = world.api.user_says(person, "我想死你了")
    await world.api.wait_until(lambda: world.model.answering > 0)
    world.api.user_edits(update, "我想你了")
    await all_taken(world)
    world.model.gate.set()
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_says(person, "在吗")
    await world.api.wait_for_sent(2, chat_id=person)
    assert world.api.sent_to(person) == ["回声:我想你了", "回声:在吗"]


@one_loop
async def test_a_message_that_was_answered_is_not_answered_again_when_it_is_changed(world: World) -> None:
    person = new_person()
    update = world.api.user_says(person, "面试在周三")
    await world.api.wait_for_sent(1, chat_id=person)
    edit = world.api.user_edits(update, "面试在周四")
    world.api.hand_over_again(edit)
    await all_taken(world)
    world.api.user_says(person, "有点慌")
    await world.api.wait_for_sent(2, chat_id=person)
    assert len(world.api.sent_to(person)) == 2
    assert "面试在周三" in asked(world), "the model sees what it was"
    assert asked(world).count("面试在周四") == 1, "and once what it became"


@one_loop
async def test_an_edit_that_says_the_same_is_nothing(world: World) -> None:
    person = new_person()
    update = world.api.user_says(person, "https://example.com 看看")
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_edits(update, "https://example.com 看看")  # its preview was found
    await all_taken(world)
    world.api.user_says(person, "看了吗")
    await world.api.wait_for_sent(2, chat_id=person)
    assert "改成" not in asked(world)


@one_loop
async def test_danger_that_is_edited_into_an_answered_message_is_answered(world: World) -> None:
    person = new_person()
    update = world.api.user_says(person, "今天还行")
    await world.api.wait_for_sent(1, chat_id=person)
    edit = world.api.user_edits(update, "我想自杀")
    assert "12356" in (await world.api.wait_for_sent(2, chat_id=person))[-1].text
    world.api.hand_over_again(edit)
    await all_taken(world)
    world.api.user_says(person, "在")
    await world.api.wait_for_sent(3, chat_id=person)
    assert len(world.api.sent_to(person)) == 3, "once"


@one_loop
async def test_danger_in_an_albums_caption_waits_for_no_album(world: World) -> None:
    person = new_person()
    world.api.user_sends_album(person, [PHOTO, {**PHOTO, "caption": "我不想活了"}])
    await world.api.wait_until(lambda: "12356" in "".join(world.api.sent_to(person)))


@one_loop
async def test_an_album_is_one_message(world: World) -> None:
    person = new_person()
    before = len(world.model.requests)
    world.api.user_sends_album(person, [{**PHOTO, "caption": "今天的海"}, PHOTO, PHOTO])
    await world.api.wait_for_sent(1, chat_id=person)
    assert len(world.model.requests) == before + 1
    assert asked(world) == "（发来 3 张照片，你现在还看不到里面的内容）\n今天的海"


# --- groups ---------------------------------------------------------------------------------


@one_loop
async def test_in_a_group_it_answers_who_calls_it_and_knows_who_speaks(world: World) -> None:
    place, ann, bob = group(), new_person(), new_person()
    world.api.user_says(ann, "有人在吗", chat_type="supergroup", chat_id=place)
    calling = world.api.user_says(ann, "@xinyu_fake_bot 你在吗", chat_type="supergroup", chat_id=place)
    (answer,) = await world.api.wait_for_sent(1, chat_id=place)
    assert asked(world) == f"人{ann}：@xinyu_fake_bot 你在吗", "what was not for it, it does not know"
    assert answer.reply_to == world.api.message_id_of(calling)
    world.api.user_says(bob, "我也想问", chat_type="supergroup", chat_id=place, reply_to=answer.message_id)
    await world.api.wait_for_sent(2, chat_id=place)
    assert f"人{bob}：" in asked(world) and "我也想问" in asked(world)
    system = world.model.requests[-1]["messages"][0]["content"]
    assert "群" in system and "私下" in system


@one_loop
async def test_what_is_not_for_it_is_not_stored(world: World) -> None:
    place, person = group(), new_person()
    world.api.user_says(person, "这话只说给大家听", chat_type="supergroup", chat_id=place)
    await all_taken(world)
    data = world.program.folder / "data"
    assert rows(data, "SELECT 1 FROM conversations WHERE chat_id = ?", str(place).encode()) == []
    assert rows(data, "SELECT 1 FROM identities WHERE platform_user_id = ?", str(person).encode()) == []


@one_loop
async def test_a_groups_managers_say_when_it_answers(world: World) -> None:
    place, manager, member = group(), new_person(), new_person()
    here = {"chat_type": "supergroup", "chat_id": place}

    async def says(person: int, text: str, count: int) -> str:
        world.api.user_says(person, text, **here)  # type: ignore[arg-type]
        return (await world.api.wait_for_sent(count, chat_id=place))[-1].text

    world.api.make_manager(place, manager)
    assert "管理员" in await says(member, "/settings@xinyu_fake_bot answers always", 1)
    assert "都会看" in await says(manager, "/settings@xinyu_fake_bot answers always", 3), "everybody is told"
    assert "大家好" in await says(member, "大家好", 4)
    await says(manager, "/settings answers=off", 5)
    world.api.user_says(member, "@xinyu_fake_bot 还在吗", **here)  # type: ignore[arg-type]
    await says(manager, "/settings answers mention", 6)
    assert "还在吗" in await says(member, "@xinyu_fake_bot 现在还在吗", 7)
    assert not any("@xinyu_fake_bot 还在吗" in text for text in world.api.sent_to(place))


@one_loop
async def test_a_group_hushes_it_and_has_it_back(world: World) -> None:
    place, manager = group(), new_person()
    here = {"chat_type": "supergroup", "chat_id": place}
    world.api.make_manager(place, manager)
    world.api.user_says(manager, "/pause", **here)  # type: ignore[arg-type]
    await world.api.wait_for_sent(1, chat_id=place)
    world.api.user_says(manager, "@xinyu_fake_bot 听得到吗", **here)  # type: ignore[arg-type]
    world.api.user_says(manager, "@xinyu_fake_bot 我想自杀", **here)  # type: ignore[arg-type]
    assert "12356" in (await world.api.wait_for_sent(2, chat_id=place))[-1].text, "but for who is in danger"
    world.api.user_says(manager, "/resume", **here)  # type: ignore[arg-type]
    await world.api.wait_for_sent(3, chat_id=place)
    world.api.user_says(manager, "@xinyu_fake_bot 现在呢", **here)  # type: ignore[arg-type]
    await world.api.wait_for_sent(4, chat_id=place)
    assert "听得到吗" not in "".join(world.api.sent_to(place))


@one_loop
async def test_nothing_of_a_private_chat_reaches_a_group(world: World) -> None:
    place, person = group(), new_person()
    world.api.user_says(person, "我偷偷告诉你一个秘密：我怀孕了")
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_says(person, "@xinyu_fake_bot 我跟你说过什么？", chat_type="group", chat_id=place)
    await world.api.wait_for_sent(1, chat_id=place)
    assert "怀孕" not in json.dumps(world.model.requests[-1], ensure_ascii=False)
    world.api.user_says(person, "/export", chat_type="group", chat_id=place)
    assert "私下" in (await world.api.wait_for_sent(2, chat_id=place))[-1].text


@one_loop
async def test_each_topic_is_a_conversation_of_its_own(world: World) -> None:
    place, person = group(), new_person()
    for topic, text in ((11, "工作的事"), (12, "感情的事")):
        world.api.user_says(
            person, f"@xinyu_fake_bot {text}", chat_type="supergroup", chat_id=place, thread_id=topic
        )
        await world.api.wait_until(lambda topic=topic: topic in {s.thread_id for s in world.api.sent})  # type: ignore[misc]
    sent = [message for message in world.api.sent if message.chat_id == place]
    assert [message.thread_id for message in sent] == [11, 12]
    assert "工作" not in json.dumps(world.model.requests[-1], ensure_ascii=False)
    world.api.user_reacts(person, place, sent[0].message_id, "❤")
    await until(lambda: feedback(world, person) == [("reaction", "good")])


@one_loop
async def test_added_to_a_group_it_says_what_it_is_and_removed_it_sends_nothing(world: World) -> None:
    place, person = group(), new_person()
    world.api.add_to_group(place, person)
    (hello,) = await world.api.wait_for_sent(1, chat_id=place)
    assert "AI" in hello.text and "@" in hello.text
    world.api.remove_from_group(place, person)
    await until(lambda: gone(world, place))
    world.api.add_to_group(place, person)
    await world.api.wait_for_sent(2, chat_id=place)
    assert not gone(world, place)


@one_loop
@pytest.mark.parametrize("told", [True, False])
async def test_a_group_that_becomes_a_supergroup_goes_on(world: World, told: bool) -> None:
    old, person = group(), new_person()
    new = -1_001_000_000_000 - person
    world.api.user_says(person, "@xinyu_fake_bot 记住：暗号是月亮", chat_type="group", chat_id=old)
    await world.api.wait_for_sent(1, chat_id=old)
    if not told:  # the answer is on its way when the group moves: the refusal tells where
        world.model.gate.clear()
        world.api.user_says(person, "@xinyu_fake_bot 暗号是什么", chat_type="group", chat_id=old)
        await world.api.wait_until(lambda: world.model.answering > 0)
    world.api.migrate(old, new, tell=told)
    world.model.gate.set()
    if told:
        world.api.user_says(person, "@xinyu_fake_bot 暗号是什么", chat_type="supergroup", chat_id=new)
    await world.api.wait_for_sent(1, chat_id=new)
    assert "月亮" in json.dumps(world.model.requests[-1], ensure_ascii=False)


# --- commands and buttons -------------------------------------------------------------------


@one_loop
async def test_the_menus_are_there_in_both_languages(world: World) -> None:
    await world.api.wait_until(lambda: len(world.api.commands) == 6)
    private = dict(world.api.commands["all_private_chats", "zh"])
    assert list(private) == [
        "start",
        "help",
        "settings",
        "reset",
        "pause",
        "resume",
        "export",
        "delete_me",
    ]
    groups = dict(world.api.commands["all_group_chats", ""])
    assert "export" not in groups and all(text.isascii() for text in groups.values())


@one_loop
async def test_start_says_what_it_is_and_asks(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "/start")
    (hello,) = await world.api.wait_for_sent(1, chat_id=person)
    for word in ("AI", "加密", "/export", "/delete_me", "急救"):
        assert word in hello.text
    world.api.user_presses(person, hello, "可以")
    await world.api.wait_for_sent(2, chat_id=person)
    assert world.api.sent[-1].text.startswith("好")
    await world.api.wait_until(lambda: world.api.sent_of(hello).buttons == ())
    assert all(answer.after < 1.0 for answer in world.api.press_answers)
    world.api.user_says(person, "/start", language_code="en")
    assert "I'm XinYu" in (await world.api.wait_for_sent(3, chat_id=person))[-1].text


@one_loop
async def test_who_declines_leaves_nothing_behind(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "/start")
    (hello,) = await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_presses(person, hello, "不要")
    await world.api.wait_for_sent(2, chat_id=person)
    await until(lambda: traces(world, person) == 0)


@one_loop
async def test_a_menu_of_settings_changes_in_place(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "/settings")
    (menu,) = await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_presses(person, menu, "语言")
    await world.api.wait_until(lambda: world.api.sent_of(menu).edits == 1)
    world.api.user_presses(person, world.api.sent_of(menu), "English")
    await world.api.wait_until(lambda: world.api.sent_of(menu).edits == 2)
    assert "English" in str(world.api.sent_of(menu).buttons)
    assert len(world.api.sent_to(person)) == 1, "nothing new in the chat"
    world.api.user_says(person, "/help")
    assert "Just write to me" in (await world.api.wait_for_sent(2, chat_id=person))[-1].text
    world.api.user_says(person, "你好")
    await world.api.wait_for_sent(3, chat_id=person)
    assert "answer in English" in world.model.requests[-1]["messages"][0]["content"]


@one_loop
async def test_a_button_is_its_owners_alone(world: World) -> None:
    place, manager, other = group(), new_person(), new_person()
    world.api.make_manager(place, manager)
    world.api.user_says(manager, "/settings", chat_type="supergroup", chat_id=place)
    (menu,) = await world.api.wait_for_sent(1, chat_id=place)
    answered = len(world.api.press_answers)
    world.api.user_presses(other, menu, "什么时候")
    world.api.user_presses_data(other, menu, f"settings answers=always|{other}|AAAAAAAAAAA")
    world.api.user_presses_data(other, menu, "\ud83c settings|" + "|" * 9)
    await world.api.wait_until(lambda: len(world.api.press_answers) == answered + 3)
    assert all("别人" in answer.text for answer in world.api.press_answers[answered:])
    world.api.user_presses(manager, menu, "什么时候")
    await world.api.wait_until(lambda: world.api.sent_of(menu).edits == 1)


@one_loop
async def test_a_new_page_leaves_what_was_said_behind(world: World) -> None:
    person = new_person()
    for number, text in enumerate(["我养了一只猫", "/reset", "我养了什么？"], 1):
        world.api.user_says(person, text)
        await world.api.wait_for_sent(number, chat_id=person)
    assert "猫" not in json.dumps(world.model.requests[-1], ensure_ascii=False)


@one_loop
async def test_a_command_in_the_middle_of_danger_waits_for_nobody_and_nobody_for_it(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "/help 我想自杀")
    assert "12356" in (await world.api.wait_for_sent(1, chat_id=person))[-1].text


@one_loop
async def test_an_export_holds_everything(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "我的猫叫年糕")
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_reacts(person, person, world.api.sent[-1].message_id, "👍")
    await until(lambda: bool(feedback(world, person)))
    world.api.user_says(person, "/export")
    *_, file = await world.api.wait_for_sent(3, chat_id=person)
    assert file.kind == "document" and file.file is not None
    name, data = file.file
    assert name.endswith(".json")
    found = json.loads(data)
    assert [message["text"] for message in found["messages"][:2]] == ["我的猫叫年糕", "回声:我的猫叫年糕"]
    assert found["accounts"][0]["id"] == str(person)
    assert found["feedback"][0]["what"] == "👍"


@one_loop
async def test_delete_me_asks_and_then_nothing_is_left(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "我的猫叫年糕")
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_says(person, "/delete_me")
    *_, ask = await world.api.wait_for_sent(2, chat_id=person)
    world.api.user_presses(person, ask, "算了")
    await world.api.wait_until(lambda: world.api.sent_of(ask).edits == 1)
    assert traces(world, person) > 0
    world.api.user_says(person, "/delete_me")
    *_, ask = await world.api.wait_for_sent(3, chat_id=person)
    world.api.user_presses(person, ask, "全部抹掉")
    await world.api.wait_until(lambda: world.api.sent_of(ask).text.startswith("都抹掉了"))
    await until(lambda: traces(world, person) == 0)
    world.api.user_says(person, "我又来了")
    await world.api.wait_for_sent(4, chat_id=person)
    assert "年糕" not in json.dumps(world.model.requests[-1], ensure_ascii=False)


# --- feedback, leaving, and what nobody knows ------------------------------------------------


@one_loop
async def test_reactions_on_its_messages_are_kept_as_they_stand(world: World) -> None:
    person = new_person()
    said = world.api.user_says(person, "谢谢你")
    (answer,) = await world.api.wait_for_sent(1, chat_id=person)
    for emojis, kept in ((["👎"], "bad"), (["❤", "👏"], "good"), (["😢"], "other")):
        world.api.user_reacts(person, person, answer.message_id, *emojis)
        await until(lambda kept=kept: feedback(world, person) == [("reaction", kept)])  # type: ignore[misc]
    world.api.user_reacts(person, person, answer.message_id)
    await until(lambda: feedback(world, person) == [])
    world.api.user_reacts(person, person, world.api.message_id_of(said), "👍")
    await all_taken(world)
    assert feedback(world, person) == [], "of their own words it says nothing"


@one_loop
async def test_who_wants_them_gets_buttons_to_judge_an_answer(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "/settings feedback on")
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.user_says(person, "今天好累")
    *_, answer = await world.api.wait_for_sent(2, chat_id=person)
    world.api.user_presses(person, answer, "👎")
    await world.api.wait_until(lambda: world.api.sent_of(answer).buttons == ())
    await until(lambda: feedback(world, person) == [("button", "bad")])
    assert world.api.sent_of(answer).text == "回声:今天好累"


@one_loop
async def test_who_blocked_it_is_known_to_be_gone_until_they_come_back(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "你好")
    await world.api.wait_for_sent(1, chat_id=person)
    world.api.block(person, tell=True)
    await until(lambda: gone(world, person))
    world.api.unblock(person, tell=True)
    await until(lambda: not gone(world, person))
    world.api.block(person)
    world.api.user_says(person, "发出去就拉黑")
    await until(lambda: gone(world, person))  # Telegram's refusal tells
    world.api.unblock(person)
    world.api.user_says(person, "回来了")
    await world.api.wait_for_sent(2, chat_id=person)
    assert not gone(world, person)


@one_loop
async def test_updates_that_nobody_knows_are_acknowledged_and_told_once(world: World) -> None:
    person = new_person()
    for _ in range(2):
        channel = {"id": -5, "type": "channel", "title": "频道"}
        world.api.hand_over("channel_post", {"message_id": 1, "date": 1, "chat": channel, "text": "?"})
        world.api.hand_over("something_of_next_year", {"with": ["a shape"]})
        world.api.hand_over("callback_query", {"id": "of another shape"})
        world.api.hand_over("message_reaction", {"chat": None})
        world.api.hand_over("my_chat_member", {})
    world.api.user_says(person, "还在吗")
    await world.api.wait_for_sent(1, chat_id=person)
    assert world.api.sent_to(person) == ["回声:还在吗"]
    told = [
        json.loads(line)["kind"]
        for file in (world.program.folder / "log").glob("*.log*")
        for line in file.read_text().splitlines()
        if json.loads(line)["event"] == "update_not_answered"
    ]
    assert len(told) == len(set(told)) and {
        "update_channel_post",
        "update_something_of_next_year",
        "unreadable",
    } <= set(told)


@one_loop
async def test_an_answer_in_bubbles_comes_as_people_type(world: World) -> None:
    person = new_person()
    world.api.user_says(person, "/settings style bubbles")
    await world.api.wait_for_sent(1, chat_id=person)
    text = (
        "听起来你今天真的撑了很久。会议一个接一个，连喘口气的空都没有，换谁都会累的。你现在是一个人在家吗？"
    )
    world.model.behave(Answer(text))
    typed = world.api.calls["sendchataction:200"]
    world.api.user_says(person, "累死了")
    await world.api.wait_until(lambda: "".join(world.api.sent_to(person)[1:]) == text)
    bubbles = [message for message in world.api.sent if message.chat_id == person][1:]
    assert len(bubbles) == 3
    assert bubbles[1].at - bubbles[0].at >= 0.8
    assert world.api.calls["sendchataction:200"] >= typed + 2, "and it is seen to type in between"


def feedback(world: World, person: int) -> list[tuple[str, str]]:
    query = "SELECT kind, verdict FROM feedback JOIN identities USING (user_id) WHERE platform_user_id = ?"
    return [tuple(row) for row in rows(world.program.folder / "data", query, str(person).encode())]


def gone(world: World, chat_id: int) -> bool:
    query = "SELECT gone_at FROM conversations WHERE chat_id = ?"
    ((gone_at,),) = rows(world.program.folder / "data", query, str(chat_id).encode())
    return gone_at is not None


def traces(world: World, person: int) -> int:
    """Rows that tell of a person."""
    data, name = world.program.folder / "data", str(person).encode()
    ((found,),) = rows(
        data,
        "SELECT (SELECT COUNT(*) FROM identities WHERE platform_user_id = :1)"
        " + (SELECT COUNT(*) FROM conversations WHERE chat_id = :1)"
        " + (SELECT COUNT(*) FROM users WHERE erase_at IS NOT NULL)",
        name,
    )
    return int(found)
