"""`xinyu` as an operator types it: run, keys, deliveries, db; what each says and how it ends."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.cli.main import FAILED, MISCONFIGURED, main
from bot.settings import Settings
from core.errors import DeliveryFailed
from core.model.fallback import FallbackModel
from storage.keys import parse_key
from tests.companion import Phone, companion, until
from tests.fakes.program import Program, free_port

ROOT = Path(__file__).parents[2]


class Terminal:
    """Types commands in a folder of its own and reads what they print."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture
        self.out = self.err = ""

    def type(self, *arguments: str) -> int:
        """The exit code; what was printed is in `out` and `err`."""
        self._capture.readouterr()
        try:
            code = main(arguments)
        except SystemExit as exit_:  # argparse's
            code = exit_.code if isinstance(exit_.code, int) else 1
        self.out, self.err = self._capture.readouterr()
        assert "Traceback" not in self.err
        return code

    def json(self, *arguments: str) -> Any:
        assert self.type(*arguments, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    for name in [*(name.upper() for name in Settings.model_fields), "XINYU_CONFIG"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path, capsys)


def in_shell(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command as a process of its own."""
    return subprocess.run(
        (sys.executable, "-m", "bot", *arguments),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- usage and settings ---------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("fly",), ("keys",), ("keys", "eat"), ("run", "--fast"), ("db",)])
def test_wrong_usage_is_told_with_code_2(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    assert terminal.type(*arguments) == 2
    assert "usage: xinyu" in terminal.err and terminal.out == ""


@pytest.mark.parametrize("command", [("run",), ("keys", "list"), ("deliveries", "list"), ("db", "current")])
def test_wrong_settings_are_all_told_and_nothing_is_begun(
    terminal: Terminal, command: tuple[str, ...]
) -> None:
    (terminal.folder / "config.env").write_text("PORTT=1\nTIMEOUT=soon\nLLM_API_KEY=your_qwen_api_key_here\n")
    assert terminal.type(*command) == MISCONFIGURED
    assert [line.partition(":")[0] for line in terminal.err.splitlines()] == [
        "PORTT",
        "LLM_API_KEY",
        "TIMEOUT",
    ]
    assert {file.name for file in terminal.folder.iterdir()} == {"config.env"}


def test_a_name_that_is_nearly_a_setting_is_pointed_out(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEGRAM_BOT_TOKENS", "1:secret")
    assert terminal.type("keys", "list") == 0
    assert "did you mean TELEGRAM_BOT_TOKEN?" in terminal.err and "secret" not in terminal.err


def test_a_key_that_does_not_open_the_rows_is_told(terminal: Terminal) -> None:
    async def one_message() -> None:
        async with companion(terminal.folder, FallbackModel([]), phone=Phone()) as core:
            await core.say("你好")

    asyncio.run(one_message())
    (terminal.folder / "config.env").write_text(
        f"DATABASE_URL=sqlite:///xinyu.db\nENCRYPTION_KEY={base64.b64encode(b'x' * 32).decode()}\n"
    )
    assert terminal.type("deliveries", "list") == MISCONFIGURED
    assert "ENCRYPTION_KEY does not open" in terminal.err


def test_a_database_that_is_away_is_told_with_code_1(terminal: Terminal) -> None:
    (terminal.folder / "config.env").write_text(
        f"DATABASE_URL=mysql://someone:secret-word@127.0.0.1:{free_port()}/x\n"
        f"ENCRYPTION_KEY={base64.b64encode(b'x' * 32).decode()}\n"
    )
    for command in (("keys", "list"), ("db", "current"), ("db", "upgrade")):
        assert terminal.type(*command) == FAILED
        assert "database does not answer" in terminal.err and "secret-word" not in terminal.err


# --- run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["", "fly", "serve,fly", ","])
def test_run_knows_its_roles(terminal: Terminal, role: str) -> None:
    assert terminal.type("run", "--role", role) == MISCONFIGURED
    assert "serve, work" in terminal.err


async def test_run_serves_says_where_and_stops_well(tmp_path: Path) -> None:
    program = Program(tmp_path, {})
    await program.start()
    async with aiohttp.ClientSession(program.url) as client, client.get("/health") as response:
        assert response.status == 200
    assert await program.stop() == 0
    shown = program.output.read_text(encoding="utf-8")
    assert f"XinYu is here: {program.url}" in shown and "Traceback" not in shown
    assert (tmp_path / "data" / "encryption.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_a_role_does_its_part_alone(tmp_path: Path) -> None:
    serving = Program(tmp_path, {"TIMEOUT": "1"}, ("run", "--role", "serve"))
    await serving.start()
    working = Program(tmp_path, {}, ("run", "--role", "work"), port=serving.port)
    try:
        body = {"message": "在吗", "user_id": "somebody"}
        async with aiohttp.ClientSession(serving.url) as client:
            async with client.post("/chat", json=body) as response:
                assert response.status == 504, "nobody works"
                again = {"Idempotency-Key": response.headers["Idempotency-Key"]}
            await working.start(wait=False)
            statuses: list[int] = []
            while 200 not in statuses:
                assert len(statuses) < 20
                async with client.post("/chat", json=body, headers=again) as response:
                    statuses.append(response.status)
    finally:
        assert await working.stop() == 0
        assert await serving.stop() == 0


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = in_shell(tmp_path, "run", PORT=str(port))
    assert ended.returncode == MISCONFIGURED
    assert (
        f"PORT {port}" in ended.stderr and "xinyu doctor" in ended.stderr and "Traceback" not in ended.stderr
    )


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_made_listed_and_revoked(terminal: Terminal) -> None:
    made = terminal.json("keys", "create", "网页 · web", "--scope", "chat, metrics")
    assert made["key"].startswith("xy_") and made["scopes"] == ["chat", "metrics"]
    (listed,) = terminal.json("keys", "list")
    assert listed["id"] == made["id"] and listed["name"] == "网页 · web"
    assert listed["created_at"] and listed["revoked_at"] is None and listed["last_used_at"] is None
    assert made["key"] not in terminal.out
    assert made["key"].encode() not in b"".join(
        file.read_bytes() for file in (terminal.folder / "data").rglob("*") if file.is_file()
    ), "only its hash is stored"
    assert terminal.type("keys", "list") == 0 and "valid" in terminal.out
    assert terminal.type("keys", "revoke", made["id"]) == 0
    assert terminal.type("keys", "revoke", made["id"]) == FAILED
    assert terminal.type("keys", "revoke", "12345") == FAILED
    assert terminal.type("keys", "list") == 0 and "revoked" in terminal.out
    assert terminal.json("keys", "list")[0]["revoked_at"]


def test_a_key_is_printed_alone_for_a_program_to_read(terminal: Terminal) -> None:
    assert terminal.type("keys", "create", "script") == 0
    assert terminal.out.startswith("xy_") and len(terminal.out.split()) == 1
    assert "only this once" in terminal.err
    (listed,) = terminal.json("keys", "list")
    assert listed["scopes"] == ["chat"]


@pytest.mark.parametrize("wrong", [("x", "--scope", "root"), ("x", "--scope", ""), ("",), ("x" * 65,)])
def test_a_wrong_scope_or_name_is_told(terminal: Terminal, wrong: tuple[str, ...]) -> None:
    assert terminal.type("keys", "create", *wrong) == MISCONFIGURED
    assert "admin, chat, metrics" in terminal.err and terminal.out == ""


def test_an_encryption_key_is_one_and_new_each_time(terminal: Terminal) -> None:
    keys = set()
    for _ in range(3):
        assert terminal.type("keys", "encryption") == 0
        keys.add(parse_key(terminal.out))
    assert len(keys) == 3 and list(terminal.folder.iterdir()) == []


# --- deliveries -----------------------------------------------------------------------------------


def dead_letters(folder: Path, count: int) -> None:
    """Answers that could not be delivered, in data/ as the program keeps them."""

    async def make() -> None:

        data = folder / "data"
        data.mkdir()
        phone = Phone(trouble=lambda _: DeliveryFailed("refused", permanent=True))
        async with companion(data, FallbackModel([]), phone=phone) as core:
            for number in range(count):
                await core.say("没送到的秘密", f"chat-{number}")
            await until(
                lambda: core.rows("select count(*) from deliveries where state = 'dead'") == [(count,)]
            )
        (data / "encryption.key").write_text(base64.b64encode(bytes(32)).decode())

    asyncio.run(make())


def test_dead_letters_are_listed_without_text_and_sent_again(terminal: Terminal) -> None:
    dead_letters(terminal.folder, 3)
    listed = terminal.json("deliveries", "list")
    assert [(one["platform"], one["state"], one["attempts"], one["reason"]) for one in listed] == [
        ("telegram", "dead", 1, "refused")
    ] * 3
    assert terminal.type("deliveries", "list", "--limit", "2") == 0
    assert len(terminal.out.splitlines()) == 2 and "refused" in terminal.out
    assert "秘密" not in terminal.out and "收到" not in terminal.out
    assert terminal.type("deliveries", "replay") == 2 and "--all" in terminal.out + terminal.err
    assert terminal.type("deliveries", "replay", listed[0]["id"]) == 0 and terminal.out.startswith("1 ")
    assert len(terminal.json("deliveries", "list")) == 2
    assert terminal.type("deliveries", "replay", "--all") == 0 and terminal.out.startswith("2 ")
    assert terminal.type("deliveries", "list") == 0 and "none" in terminal.out
    pending = terminal.json("deliveries", "list", "--state", "pending")
    assert {one["attempts"] for one in pending} == {0} and len(pending) == 3
    assert terminal.type("deliveries", "replay", listed[0]["id"]) == 0 and terminal.out.startswith("0 ")


def test_a_reader_that_goes_away_is_no_error(terminal: Terminal) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        (sys.executable, "-m", "bot", "keys", "list", "--json"),
        cwd=terminal.folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, "")


# --- db -------------------------------------------------------------------------------------------


def tables(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "data" / "xinyu.db")) as database:
        return {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}


def test_the_schema_goes_up_and_down(terminal: Terminal) -> None:
    assert terminal.json("db", "current")["current"] is None
    assert terminal.type("db", "upgrade") == 0
    newest = terminal.json("db", "current")
    assert newest["current"] == newest["newest"] and newest["newest"] in terminal.out
    assert {"users", "inbox", "deliveries"} <= tables(terminal.folder)
    assert terminal.type("db", "upgrade") == 0, "again changes nothing"
    assert terminal.type("db", "downgrade", "base") == 0
    assert tables(terminal.folder) <= {"alembic_version"}
    assert terminal.json("db", "current")["current"] is None
    assert terminal.type("db", "upgrade") == 0


def test_a_revision_that_is_none_is_told(terminal: Terminal) -> None:
    assert terminal.type("db", "upgrade") == 0
    assert terminal.type("db", "downgrade", "no-such") == MISCONFIGURED
    assert "no-such" in terminal.err
