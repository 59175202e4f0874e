"""The chat page in real Chromium against the real program: a scripted model, no stand-ins in between.

Screenshots go to `artifacts/`. Every test also fails on a console error, a breach of the content
security policy, or a request to another host.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.fakes.model_server import KEY, MODEL, PacedModel
from tests.fakes.program import Program

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
IN_CI = os.environ.get("CI") == "true"
ARTIFACTS = Path(__file__).parents[2] / "artifacts"
PHONE = {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("web-page"),  # one program and one browser for all of them
    pytest.mark.skipif(
        CHROMIUM is None and not IN_CI, reason="Chromium is not installed: apt install chromium"
    ),
]
expect.set_options(timeout=15_000)


@dataclass
class Chat:
    """The page as a person meets it."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.box = self.page.get_by_role("textbox")
        self.send = self.page.locator("#send")
        self.messages = self.page.locator("#messages > li:not(.day)")
        self.mine = self.page.locator("#messages > .mine .words")
        self.replies = self.page.locator("#messages > .theirs:not(.live) .words")
        self.live = self.page.locator("#messages > .live .words")

    async def open(self, query: str = "") -> Chat:
        await self.page.goto(f"{self.url}/{query}")
        await self.ready()
        return self

    async def ready(self) -> None:
        await self.page.wait_for_selector("html[data-ready]")

    async def say(self, text: str) -> None:
        await self.box.fill(text)
        await self.box.press("Enter")

    async def history(self) -> list[tuple[str, str]]:
        """What the server has of this conversation."""
        found: list[dict[str, str]] = await self.page.evaluate(
            """async () => {
              const user = localStorage.getItem("xinyu.user");
              return (await (await fetch(`/chat/history?limit=100&user_id=${user}`)).json()).messages;
            }"""
        )
        return [(message["role"], message["text"]) for message in found]

    async def talk_elsewhere(self, *texts: str) -> None:
        """Say something and wait for the answer, past the page."""
        await self.page.evaluate(
            """async (texts) => {
              const user_id = localStorage.getItem("xinyu.user");
              const headers = {"Content-Type": "application/json"};
              for (const message of texts)
                await fetch("/chat", {method: "POST", headers, body: JSON.stringify({message, user_id})});
            }""",
            list(texts),
        )

    async def shoot(self, name: str) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=ARTIFACTS / f"web-{name}.png")

    async def fits(self) -> None:
        """Nothing sticks out sideways."""
        outside = await self.page.evaluate(
            """() => [document.documentElement, document.getElementById("scroll")]
              .filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.tagName)
              .concat([...document.querySelectorAll(".words, .note, textarea, button, .hint, h1")]
                .filter((each) => each.getBoundingClientRect().right > innerWidth + 0.5)
                .map((each) => each.className || each.tagName))"""
        )
        assert outside == []


@dataclass
class Site:
    """The running program, and chats with it in browser contexts of their own."""

    program: Program
    browser: Browser
    chats: list[Chat] = field(default_factory=list)
    may_lose_connection: bool = False

    async def chat(self, **options: Any) -> Chat:
        options = {"locale": "zh-CN", "viewport": {"width": 1024, "height": 768}, **options}
        return await self.tab(await self.browser.new_context(**options))

    async def tab(self, context: BrowserContext) -> Chat:
        page = await context.new_page()
        chat = Chat(page, self.program.url)
        self.chats.append(chat)
        await page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));"
        )
        page.on("pageerror", lambda error: chat.problems.append(str(error)))
        page.on("console", lambda line: chat.problems.append(line.text) if line.type == "error" else None)
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(f"{chat.url}/") else chat.problems.append(f"asks {asked.url}")
            ),
        )
        return chat

    async def close(self) -> None:
        for chat in self.chats:
            await chat.page.context.close()
            lost = ("net::ERR_",) if self.may_lose_connection else ()
            assert [problem for problem in chat.problems if not any(word in problem for word in lost)] == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def paced_model() -> AsyncIterator[PacedModel]:
    async with PacedModel() as model:
        yield model


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(
    paced_model: PacedModel, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Program]:
    settings = {
        "LLM_API_KEY": KEY,
        "LLM_BASE_URL": paced_model.base_url,
        "DEFAULT_MODEL": MODEL,
        "BURST_QUIET_SECONDS": "0.05",
    }
    program = Program(tmp_path_factory.mktemp("web"), settings)
    await program.start()
    yield program
    await program.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    assert CHROMIUM is not None, "CI has to have Chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def site(program: Program, browser: Browser) -> AsyncIterator[Site]:
    site = Site(program, browser)
    yield site
    await site.close()


@pytest.fixture
def model(paced_model: PacedModel) -> PacedModel:
    paced_model.pace(False)
    paced_model.gate.set()
    return paced_model


# --- an answer comes into being -------------------------------------------------------------------


async def test_the_answer_is_visible_before_it_is_complete(site: Site, model: PacedModel) -> None:
    chat = await (await site.chat()).open()
    model.gate.clear()
    model.say("我在听，")
    await chat.say("睡不着")
    await expect(chat.mine).to_have_text(["睡不着"])
    await expect(chat.page.locator(".live .dots")).to_be_visible()
    await expect(chat.page.get_by_role("status").filter(has_text="心语正在写")).to_be_attached()
    model.gate.set()
    await expect(chat.live).to_have_text("我在听，")
    model.say("你慢慢\n说。")
    await expect(chat.live).to_have_text("我在听，你慢慢\n说。")
    await expect(chat.replies).to_have_count(0)
    model.say(None)
    await expect(chat.replies).to_have_text(["我在听，你慢慢\n说。"])
    await expect(chat.live).to_have_count(0)


async def test_reloading_half_way_ends_with_the_whole_answer_once(site: Site, model: PacedModel) -> None:
    chat = await (await site.chat()).open()
    asked = len(model.requests)
    model.say("前一半，")
    await chat.say("你好")
    await expect(chat.live).to_have_text("前一半，")
    await chat.page.reload()
    await chat.ready()
    await expect(chat.live).to_have_text("前一半，")
    await expect(chat.mine).to_have_text(["你好"])
    model.say("后一半。", None)
    await expect(chat.replies).to_have_text(["前一半，后一半。"])
    await expect(chat.messages).to_have_count(2)
    assert await chat.history() == [("user", "你好"), ("assistant", "前一半，后一半。")]
    assert len(model.requests) == asked + 1


async def test_a_restarted_server_answers_once(site: Site, model: PacedModel) -> None:
    site.may_lose_connection = True
    chat = await (await site.chat()).open()
    await chat.say("第一件事")
    await expect(chat.replies).to_have_text(["回声:第一件事"])
    model.say("说到一半，")
    await chat.say("第二件事")
    await expect(chat.live).to_have_text("说到一半，")
    await site.program.kill()
    await expect(chat.page.locator(".note")).to_contain_text("连接断了")
    await chat.say("断开时写的")
    await expect(chat.page.locator(".note").last).to_contain_text("还没送到")
    await chat.shoot("reconnecting")
    model.pace(False)
    await site.program.start()
    await expect(chat.page.locator(".note")).to_have_count(0)
    await expect(chat.live).to_have_count(0)
    await expect(chat.mine).to_have_text(["第一件事", "第二件事", "断开时写的"])
    await chat.page.reload()
    said = await chat.history()
    assert [text for role, text in said if role == "user"] == ["第一件事", "第二件事", "断开时写的"]
    answers = [text for role, text in said if role == "assistant"]
    assert answers[0] == "回声:第一件事"
    # One answer for both or one for each, as they came: everything answered, nothing twice.
    assert "|".join(answer.removeprefix("回声:") for answer in answers[1:]) == "第二件事|断开时写的"
    await expect(chat.replies).to_have_text(answers)
    await expect(chat.mine).to_have_text(["第一件事", "第二件事", "断开时写的"])


async def test_what_is_written_offline_goes_out_when_the_network_is_back(
    site: Site, model: PacedModel
) -> None:
    site.may_lose_connection = True
    chat = await (await site.chat()).open()
    await chat.page.context.set_offline(True)
    await expect(chat.page.get_by_text("网络断开了")).to_be_visible()
    await chat.say("没有网的时候")
    await expect(chat.page.locator(".note")).to_contain_text("还没送到")
    await chat.shoot("offline")
    await chat.page.context.set_offline(False)
    await expect(chat.replies).to_have_text(["回声:没有网的时候"])
    await expect(chat.page.get_by_text("网络断开了")).to_be_hidden()
    assert len(await chat.history()) == 2


async def test_a_refused_message_can_be_taken_back(site: Site) -> None:
    site.may_lose_connection = True  # Chromium reports the status 422 that this is about
    chat = await (await site.chat()).open()
    await chat.box.evaluate("box => { box.value = 'half \\ud83d'; box.dispatchEvent(new Event('input')); }")
    await chat.box.press("Enter")
    await expect(chat.page.locator(".note.urgent")).to_contain_text("这条没有送到")
    chat.problems = [problem for problem in chat.problems if "422" not in problem]
    await chat.page.reload()
    await expect(chat.page.locator(".note.urgent")).to_have_count(1)
    await chat.page.get_by_role("button", name="放回输入框").click()
    await expect(chat.messages).to_have_count(0)
    await expect(chat.box).to_be_focused()
    assert (await chat.box.input_value()).startswith("half ")


async def test_two_tabs_show_one_conversation(site: Site, model: PacedModel) -> None:
    chat = await (await site.chat()).open()
    other = await (await site.tab(chat.page.context)).open()
    model.say("两边都")
    await chat.say("在吗")
    await expect(other.live).to_have_text("两边都")
    model.say("看得到。", None)
    for each in (chat, other):
        await expect(each.replies).to_have_text(["两边都看得到。"])
        await expect(each.mine).to_have_text(["在吗"])
    assert len(await chat.history()) == 2


# --- what was said before -------------------------------------------------------------------------


# --- what was said before -------------------------------------------------------------------------


async def test_history_and_place_after_a_reload(site: Site, model: PacedModel) -> None:
    chat = await (await site.chat()).open()
    await chat.talk_elsewhere(*(f"第 {number} 句" for number in range(30)))
    await chat.page.reload()
    await chat.ready()
    await expect(chat.replies.last).to_have_text("回声:第 29 句")
    await expect(chat.replies.last).to_be_in_viewport()
    await chat.box.fill("还没写完")
    await chat.page.reload()
    await chat.ready()
    await expect(chat.box).to_have_value("还没写完")


async def test_older_messages_come_when_asked_for(site: Site, model: PacedModel) -> None:
    chat = await (await site.chat()).open()
    await chat.talk_elsewhere(*(f"第 {number} 句" for number in range(40)))
    await chat.page.reload()
    await chat.ready()
    older = chat.page.locator("#older")
    await expect(older).to_be_visible()  # hidden until the newest page is there
    await older.evaluate("button => button.click()")
    await expect(chat.mine).to_have_text([f"第 {number} 句" for number in range(40)])
    await expect(older).to_be_hidden()


# --- for everybody --------------------------------------------------------------------------------


async def test_the_keyboard_is_enough(site: Site, model: PacedModel) -> None:
    chat = await (await site.chat()).open()
    await expect(chat.box).to_be_focused()
    await chat.page.keyboard.type("第一行")
    await chat.page.keyboard.press("Shift+Enter")
    await chat.page.keyboard.type("第二行")
    await chat.page.keyboard.press("Enter")
    await expect(chat.mine).to_have_text(["第一行\n第二行"])
    await expect(chat.replies).to_have_count(1)
    await expect(chat.box).to_be_focused()
    await chat.page.keyboard.press("Escape")
    await expect(chat.page.locator("#scroll")).to_be_focused()
    await chat.page.keyboard.press("Escape")
    await expect(chat.box).to_be_focused()


async def test_enter_that_ends_an_input_method_does_not_send(site: Site, model: PacedModel) -> None:
    chat = await (await site.chat()).open()
    session = await chat.page.context.new_cdp_session(chat.page)
    await session.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
    await chat.box.evaluate(
        "box => box.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    await session.send("Input.insertText", {"text": "你好"})
    await expect(chat.box).to_have_value("你好")
    await expect(chat.messages).to_have_count(0)
    await chat.box.press("Enter")
    await expect(chat.mine).to_have_text(["你好"])
    await expect(chat.replies).to_have_count(1)


async def test_a_screen_reader_hears_each_answer_once_and_whole(site: Site, model: PacedModel) -> None:
    chat = await (await site.chat()).open()
    model.say("我在，")
    await chat.say("睡不着")
    await expect(chat.live).to_have_text("我在，")
    announced = chat.page.locator("#announced")
    await expect(announced).not_to_contain_text("我在")
    model.say("你说。", None)
    await expect(announced).to_contain_text("心语：我在，你说。")
    assert (await announced.inner_text()).count("我在，你说。") == 1
    await expect(chat.page.locator("#messages")).to_match_aria_snapshot(
        "- list:\n"
        "  - listitem: 今天\n"
        "  - listitem:\n    - text: 你：\n    - paragraph: 睡不着\n    - paragraph\n"
        "  - listitem:\n    - text: 心语：\n    - paragraph: 我在，你说。\n    - paragraph\n"
    )


LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE, "device_scale_factor": 2, "has_touch": True, "is_mobile": True},
    "phone-dark-english": {
        "viewport": PHONE,
        "device_scale_factor": 2,
        "has_touch": True,
        "is_mobile": True,
        "color_scheme": "dark",
        "locale": "en-GB",
    },
    "narrow": {"viewport": {"width": 320, "height": 480}},
    "less-motion": {"reduced_motion": "reduce", "forced_colors": "active"},
}


@pytest.mark.parametrize("look", LOOKS)
async def test_it_is_readable_everywhere(site: Site, model: PacedModel, look: str) -> None:
    chat = await (await site.chat(**LOOKS[look])).open()
    english = "english" in look
    await expect(chat.page.locator("html")).to_have_attribute("lang", "en" if english else "zh-Hans")
    await chat.shoot(f"{look}-beginning")
    said, answers = (_ENGLISH if english else _CHINESE)[0], (_ENGLISH if english else _CHINESE)[1]
    for mine, theirs in zip(said, answers, strict=True):
        model.say(theirs, None)
        await chat.say(mine)
        await expect(chat.replies.last).to_have_text(theirs)
    await chat.shoot(look)
    model.say("W" * 200, None)
    await chat.say("https://example.org/" + "a" * 200)
    await expect(chat.replies.last).to_have_text("W" * 200)
    await chat.fits()
    found = await Axe().run(chat.page)
    assert not found.violations_count, found.generate_report()


_CHINESE = (
    ["凌晨三点了，还是睡不着。", "脑子停不下来，一直在想明天的面试。"],
    [
        "三点了，还醒着，挺难熬的吧。\n我在。是有什么事一直在心里转，还是说不上来就是睡不着？",
        "嗯，明天那么要紧，脑子当然舍不得停。\n最放不下的是哪一段？说给我听，不用整理。",
    ],
)
_ENGLISH = (
    ["It's 3am and I still can't sleep.", "My head won't stop. I have an interview tomorrow."],
    [
        "Three in the morning and still awake. That's a long night.\nI'm here. Is something going round and round?",
        "No wonder it won't let go, it matters to you.\nWhich part keeps coming back? Tell me as it comes.",
    ],
)
