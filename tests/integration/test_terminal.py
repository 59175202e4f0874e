"""`xinyu chat` as a process: at a pseudo-terminal like a person's, and in a pipe."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import sqlite3
import struct
import sys
import termios
import tomllib
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.terminal.render import rows_below, safe
from adapters.terminal.words import LOCALES
from tests.fakes.model_server import (
    KEY,
    MODEL,
    Answer,
    CutHalfWay,
    FakeModelServer,
    PacedModel,
    Silent,
    Status,
)
from tests.fakes.program import Program

PATIENCE = 30.0
ROOT = str(Path(__file__).parents[2])
PROMPT = "\x1b[?2004h"
"""What readline writes before a prompt where it asks for bracketed paste."""
CTRL_C, CTRL_D = "\x03", "\x04"


def environment(folder: Path, model_url: str, **more: str | None) -> dict[str, str]:
    """What the program is started with; None leaves a setting out."""
    settings: dict[str, str | None] = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": ROOT,
        "LANG": "zh_CN.UTF-8",
        "TERM": "xterm-256color",
        "LLM_API_KEY": KEY,
        "LLM_BASE_URL": model_url,
        "DEFAULT_MODEL": MODEL,
        "MODEL_STALL_SECONDS": "1",
    }
    return {name: value for name, value in {**settings, **more}.items() if value is not None}


@dataclass
class Terminal:
    """A person's terminal with `xinyu chat` in it. What was read is consumed, so a test reads as it happened."""

    folder: Path
    settings: dict[str, str]
    arguments: tuple[str, ...] = ()
    columns: int = 80
    whole: str = ""
    _unread: bytes = b""
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> Terminal:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, self.columns, 0, 0))
        os.set_blocking(self._master, False)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot", "chat", *self.arguments),
            cwd=self.folder,
            env=self.settings,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
        )
        os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    def _read(self) -> None:
        try:
            self._unread += os.read(self._master, 65536)
        except OSError:  # EIO: the other side is gone
            asyncio.get_running_loop().remove_reader(self._master)
        self._more.set()

    async def until(self, text: str) -> str:
        """Read on until this comes; everything up to it."""
        try:
            async with asyncio.timeout(PATIENCE):
                while text.encode() not in self._unread:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} in {self._unread.decode(errors='replace')!r}") from None
        end = self._unread.index(text.encode()) + len(text.encode())
        read, self._unread = self._unread[:end].decode(errors="replace"), self._unread[end:]
        self.whole += read
        return read

    async def say(self, text: str) -> None:
        await self.until(PROMPT)
        self.type(text + "\r")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def interrupt(self) -> int:
        """Ctrl-C until it ends: one that falls between two of readline's waits is noticed with the next."""
        while self._process.returncode is None:
            self.type(CTRL_C)
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._process.wait()
        return await self.end()

    async def end(self) -> int:
        """Wait for its end, read the rest; the exit code."""
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
        self._read()
        self.whole += self._unread.decode(errors="replace")
        return code

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def close(self) -> None:
        if self._process.returncode is None:
            await self.kill()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)


@dataclass
class Desk:
    """A folder, a model, and the terminals opened there."""

    folder: Path
    model: FakeModelServer
    terminals: list[Terminal] = field(default_factory=list)

    async def open(self, *arguments: str, columns: int = 80, **settings: str | None) -> Terminal:
        environ = environment(self.folder, self.model.base_url, **settings)
        terminal = Terminal(self.folder, environ, arguments, columns)
        self.terminals.append(terminal)
        return await terminal.start()

    async def pipe(self, said: bytes, *arguments: str, **settings: str | None) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bot", "chat", *arguments),
            cwd=self.folder,
            env=environment(self.folder, self.model.base_url, **settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(said)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with FakeModelServer() as model:
        desk = Desk(tmp_path, model)
        yield desk
        for terminal in desk.terminals:
            await terminal.close()


def without_styles(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# --- in a pipe ------------------------------------------------------------------------------


async def test_each_line_of_a_pipe_is_a_turn(desk: Desk) -> None:
    said = "\ufeff你好\r\n\n  \n今天好累".encode()
    assert await desk.pipe(said) == (0, "回声:你好\n回声:今天好累\n", "")


async def test_a_pipe_gets_answers_whole_plain_and_harmless(desk: Desk) -> None:
    desk.model.behave(CutHalfWay(), Answer("\x1b]0;owned\x07一\x1b[2J\x9b31m二\x84\n三\t四"))
    code, out, err = await desk.pipe("你好\n".encode(), FORCE_COLOR="1")
    assert (code, out, err) == (0, "]0;owned一[2J31m二\n三\t四\n", "")


async def test_bytes_that_are_no_text_are_named_and_the_others_answered(desk: Desk) -> None:
    code, out, err = await desk.pipe("早\n".encode() + "你好\n".encode("gb18030") + "晚\n".encode())
    assert code == 1
    assert out == "回声:早\n回声:晚\n"
    assert "第 2 行" in err and "UTF-8" in err and "Traceback" not in err


async def test_a_line_that_is_too_long_is_named(desk: Desk) -> None:
    code, out, err = await desk.pipe(b"x" * 8001 + b"\nhello\n", LANG="en_US.UTF-8")
    assert (code, out) == (1, "回声:hello\n")
    assert "Line 1: " in err and "8000" in err and "8001" in err


async def test_without_a_model_the_listener_answers_and_it_is_said_aside(desk: Desk) -> None:
    code, out, err = await desk.pipe("我好累\n".encode(), LLM_API_KEY=None, LLM_BASE_URL=None)
    assert code == 0 and len(out.splitlines()) == 1
    assert err == "写这条时，我没能好好思考，之后会再认真回你\n"


async def test_in_danger_the_right_words_come_without_a_model(desk: Desk) -> None:
    desk.model.default = Status(500)
    code, out, _ = await desk.pipe("我不想活了\n".encode())
    assert code == 0 and "12356" in out


async def test_a_name_that_is_none_is_refused(desk: Desk) -> None:
    for name in ("", " ", "x" * 65, "a\nb"):
        code, out, err = await desk.pipe(b"", "--as", name)
        assert (code, out) == (2, "") and err.startswith("--as")


async def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(desk: Desk) -> None:
    (desk.folder / "log").write_text("a file where the folder should be")
    code, _, err = await desk.pipe("你好\n".encode())
    assert code == 2 and len(err.splitlines()) == 1 and "Traceback" not in err


async def test_help() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "chat", "--help"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0 and b"--as NAME" in out


# --- at a keyboard --------------------------------------------------------------------------


async def test_a_conversation_from_greeting_to_goodbye(desk: Desk) -> None:
    terminal = await desk.open()
    greeting = await terminal.until(PROMPT)
    assert "你好，我是心语" in greeting and "我是 AI，不是真人" in greeting and "Ctrl-D" in greeting
    assert "之前" not in greeting
    terminal.type("今天好累\r")
    await terminal.until("回声:今天好累")
    await terminal.until(PROMPT)
    terminal.type(CTRL_D)
    assert await terminal.end() == 0
    assert "随时回来" in terminal.whole
    assert "turn_finished" not in terminal.whole, "logs go to their files"
    assert "turn_finished" in (desk.folder / "log" / "application.log").read_text()


async def test_the_answer_is_seen_while_it_is_written(desk: Desk) -> None:
    async with PacedModel() as paced:
        terminal = await desk.open(LLM_BASE_URL=paced.base_url, MODEL_STALL_SECONDS="20")
        await terminal.say("你好")
        for piece in ("我在，", "👨‍👩‍👧 听你\n", "慢慢说。"):
            paced.say(piece)
            await terminal.until(piece.strip())
        paced.say(None)
        await terminal.until(PROMPT)
        assert "心语 › \x1b[0m我在，👨‍👩‍👧 听你\r\n慢慢说。\r\n" in terminal.whole
        assert "\x1b[J" not in terminal.whole.partition("我在，")[2], "nothing was taken back"


async def test_the_next_start_shows_what_was_said(desk: Desk) -> None:
    await desk.pipe("早上好\n我有点难过\n".encode())
    terminal = await desk.open()
    past = (await terminal.until(PROMPT)).partition("我们之前说过：")[2]
    lines = [line for line in past.splitlines() if "›" in line]
    assert all(re.match(r"\x1b\[2m\d\d:\d\d (你|心语) › ", line) for line in lines)
    assert [without_styles(line)[6:] for line in lines] == [
        "你 › 早上好",
        "心语 › 回声:早上好",
        "你 › 我有点难过",
        "心语 › 回声:我有点难过",
    ]
    terminal.type(CTRL_D)
    assert await terminal.end() == 0


async def test_each_name_has_its_own_conversation(desk: Desk) -> None:
    await desk.pipe("只有小雨知道\n".encode(), "--as", "小雨")
    for name, known in (("小雨", True), ("local", False)):
        terminal = await desk.open("--as", name)
        assert ("只有小雨知道" in await terminal.until(PROMPT)) is known


@pytest.mark.parametrize(
    ("no_color", "coloured"),
    [(None, True), ("", True), ("1", False)],
)
async def test_colours_where_they_are_wanted(desk: Desk, no_color: str | None, coloured: bool) -> None:
    terminal = await desk.open(NO_COLOR=no_color)
    await terminal.say("你好")
    await terminal.until("回声:你好")
    await terminal.until(PROMPT)
    assert bool(re.search(r"\x1b\[[0-9;]*m", terminal.whole)) is coloured


async def test_a_dumb_terminal_gets_no_escape_at_all(desk: Desk) -> None:
    desk.model.behave(Silent("说到一半"))
    terminal = await desk.open(TERM="dumb")
    await terminal.until("你 › ")
    terminal.type("你好\r")
    await terminal.until("说到一半\r\n（刚才断了，从头说）\r\n")
    await terminal.until("回声:你好\r\n")
    await terminal.until("你 › ")
    terminal.type(CTRL_D)
    assert await terminal.end() == 0
    assert "\x1b" not in terminal.whole


async def test_an_answer_cannot_command_the_terminal(desk: Desk) -> None:
    desk.model.behave(Answer("看\x1b]0;owned\x07这\x1b[2J\x9b31m里\x08\x84。\r完\n\t了"))
    terminal = await desk.open()
    await terminal.say("你好")
    await terminal.until("看]0;owned这[2J31m里。完\r\n\t了")
    await terminal.until(PROMPT)
    terminal.type(CTRL_D)
    await terminal.end()
    again = await desk.open()
    past = await again.until(PROMPT)
    assert "看]0;owned这[2J31m里。完\r\n\t了" in past
    for shown in (terminal.whole, past):
        assert "\x1b]" not in shown and "\x1b[2J" not in shown and "\x9b" not in shown


async def test_an_answer_that_begins_again_replaces_what_was_shown(desk: Desk) -> None:
    desk.model.behave(Silent("这一段比一行长，而且一行里放不下\n还有第二行"), Answer("从头说完。"))
    terminal = await desk.open(columns=20)
    await terminal.say("你好")
    await terminal.until("还有第二行")
    taken_back = await terminal.until("从头说完。")
    assert without_styles(taken_back) == "\r\x1b[2A\x1b[J心语 › 从头说完。"


async def test_ctrl_c_stops_waiting_and_the_answer_is_kept(desk: Desk) -> None:
    desk.model.gate.clear()
    terminal = await desk.open()
    await terminal.say("第一句")
    await terminal.until("心语正在写")
    await desk.model.wait_for_requests(1)
    terminal.type(CTRL_C)
    await terminal.until("先不等了")
    desk.model.gate.set()
    await terminal.say("第二句")
    seen = without_styles(await terminal.until("回声:第二句"))
    assert re.search(r"你没看到的答复：\r\n\d\d:\d\d 心语 › 回声:第一句\r\n.*心语 › 回声:第二句$", seen, re.S)
    await terminal.until(PROMPT)
    terminal.type(CTRL_D)
    assert await terminal.end() == 0


async def test_leaving_waits_for_the_answer_until_ctrl_c(desk: Desk) -> None:
    desk.model.gate.clear()
    terminal = await desk.open()
    await terminal.say("等不及了")
    await desk.model.wait_for_requests(1)
    terminal.type(CTRL_C)
    await terminal.until(PROMPT)
    terminal.type(CTRL_D)
    await terminal.until("等它收好就离开")
    terminal.type(CTRL_C)
    assert await terminal.end() == 0
    assert "Traceback" not in terminal.whole
    desk.model.gate.set()
    again = await desk.open()
    await again.say("我回来了")
    await again.until("回声:等不及了")
    await again.until("回声:我回来了")


async def test_ctrl_c_at_the_prompt_ends_politely(desk: Desk) -> None:
    terminal = await desk.open()
    await terminal.until(PROMPT)
    terminal.type("没说完的话")
    await terminal.until("没说完的话")
    assert await terminal.interrupt() == 0
    assert "随时回来" in terminal.whole and "Traceback" not in terminal.whole
    assert not desk.model.requests


async def test_a_paste_of_several_lines_is_one_message(desk: Desk) -> None:
    terminal = await desk.open()
    await terminal.until(PROMPT)
    terminal.type("\x1b[200~第一行\n第二行\n\n第四行\x1b[201~\r")
    await terminal.until("回声:第一行|第二行||第四行")
    assert len(desk.model.requests) == 1


async def test_what_is_typed_during_an_answer_comes_next_and_is_not_in_its_way(desk: Desk) -> None:
    desk.model.gate.clear()
    terminal = await desk.open()
    await terminal.say("第一句")
    await desk.model.wait_for_requests(1)
    long = "长" * 3000
    terminal.type(f"第二句\n第三句\n{long}\n")
    desk.model.gate.set()
    first = await terminal.until("回声:第一句")
    assert "第二句" not in first
    for text in ("第二句", "第三句", long):
        await terminal.until(f"回声:{text}")


async def test_bytes_that_are_no_text_at_the_keyboard(desk: Desk) -> None:
    terminal = await desk.open(LC_ALL="C.UTF-8")
    await terminal.until(PROMPT)
    os.write(terminal._master, b"a\xff\xfe\r")
    await terminal.until("UTF-8")
    await terminal.say("你好")
    await terminal.until("回声:你好")
    assert "Traceback" not in terminal.whole


async def test_with_the_model_down_the_listener_is_marked(desk: Desk) -> None:
    desk.model.default = Status(500)
    terminal = await desk.open()
    await terminal.say("我好累")
    await terminal.until("写这条时，我没能好好思考，之后会再认真回你")
    await terminal.until(PROMPT)
    terminal.type(CTRL_D)
    assert await terminal.end() == 0


async def test_an_answer_that_takes_too_long_is_told(desk: Desk) -> None:
    desk.model.gate.clear()
    terminal = await desk.open(TIMEOUT="5", LANG="en_US.UTF-8")
    await terminal.say("hello")
    await terminal.until("No answer yet.")
    desk.model.gate.set()
    await terminal.say("again")
    await terminal.until("回声:hello")
    await terminal.until("回声:again")
    assert "Traceback" not in terminal.whole


async def test_a_message_that_cannot_be_stored_is_told(desk: Desk) -> None:
    terminal = await desk.open()
    await terminal.until(PROMPT)
    with sqlite3.connect(desk.folder / "data" / "xinyu.db") as other:
        other.execute("BEGIN IMMEDIATE")
        terminal.type("存不下\r")
        await terminal.until("没能存下来")
        other.rollback()
    await terminal.say("现在呢")
    await terminal.until("回声:现在呢")


async def test_english(desk: Desk) -> None:
    terminal = await desk.open(LANG="en_GB.UTF-8")
    assert "I am an AI" in await terminal.until(PROMPT)
    terminal.type(CTRL_D)
    assert await terminal.end() == 0
    assert "whenever you come back" in terminal.whole


async def test_nothing_that_was_typed_is_on_the_disk(desk: Desk) -> None:
    terminal = await desk.open()
    await terminal.say("天知地知的秘密")
    await terminal.until("回声:天知地知的秘密")
    await terminal.until(PROMPT)
    terminal.type("\x1b[A")  # the arrow key still knows it
    await terminal.until("天知地知的秘密")
    assert await terminal.interrupt() == 0
    files = [path for path in desk.folder.rglob("*") if path.is_file()]
    assert files and not [path for path in files if "天知地知的秘密".encode() in path.read_bytes()]


# --- beside others --------------------------------------------------------------------------


async def test_two_terminals_of_one_person(desk: Desk) -> None:
    desk.model.gate.clear()
    one = await desk.open()
    await one.say("第一处")
    other = await desk.open()
    await other.until(PROMPT)
    await desk.model.wait_for_requests(1)
    other.type("第二处\r")
    await other.until("心语正在写")
    desk.model.gate.set()
    await one.until("回声:第一处")
    await other.until("回声:第二处")


async def test_beside_a_running_program(desk: Desk) -> None:
    program = Program(desk.folder, environment(desk.folder, desk.model.base_url))
    await program.start()
    try:
        terminal = await desk.open()
        for number in range(3):
            await terminal.say(f"第{number}句")
            await terminal.until(f"回声:第{number}句")
        desk.model.gate.clear()
        await terminal.say("说到这里停电了")
        await desk.model.wait_for_requests(4)
        await terminal.kill()
        again = await desk.open()
        await again.until("说到这里停电了")
        desk.model.gate.set()
        await again.say("我回来了")
        await again.until("回声:说到这里停电了")
        await again.until("回声:我回来了")
        assert await program.stop() == 0
    finally:
        await program.kill()


# --- parts ----------------------------------------------------------------------------------


def test_both_languages_are_complete() -> None:
    zh, en = (tomllib.loads((LOCALES / f"{name}.toml").read_text()) for name in ("zh", "en"))
    assert list(zh) == list(en)
    for key in zh:
        assert set(re.findall(r"{\w+}", zh[key])) == set(re.findall(r"{\w+}", en[key])), key


@pytest.mark.parametrize(
    ("written", "columns", "rows"),
    [
        ("", 10, 0),
        ("0123456789", 10, 0),
        ("01234567890", 10, 1),
        ("一二三四五", 10, 0),
        ("0一二三四五", 10, 1),
        ("一\n二\n", 10, 2),
        ("\t\t\t\t", 10, 0),
        ("e\u0301" * 10, 10, 0),
        ("👨‍👩‍👧" * 5, 10, 0),
    ],
)
def test_rows_that_a_text_takes(written: str, columns: int, rows: int) -> None:
    assert rows_below(written, columns) == rows


def test_safe_keeps_text_and_drops_every_control() -> None:
    controls = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
    assert safe(f"一{controls}b\u00a0é👍") == "一\t\nb\u00a0é👍"
