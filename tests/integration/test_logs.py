"""What the program writes down while everything goes wrong: never a person's words, never a secret, and one id to
follow a message by."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import pty
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import structlog
from aiohttp import web

from bot import logs
from core.errors import ModelUnavailable, XinYuError
from tests.companion import PATIENCE, until
from tests.fakes.model_server import (
    KEY,
    MODEL,
    Behaviour,
    CutHalfWay,
    FakeModelServer,
    HtmlPage,
    InvalidJson,
    Status,
)
from tests.fakes.program import Program
from tests.fakes.telegram_api import TOKEN, FakeTelegramApi

one_loop = pytest.mark.asyncio(loop_scope="module")

SAID = "金丝雀说的话-canary5c21"
"""Everything that anybody says holds this, and so do the model's answers."""
SOMEBODY = "canary-person-77aa"
TELEGRAM_PERSON = 7_650_001_234
IDEMPOTENCY_KEY = "canary-key-91bd"
ENCRYPTION_KEY = base64.b64encode(b"canary-encryption-key-0123456789").decode()
CANARIES = (
    "canary",
    "金丝雀",
    str(TELEGRAM_PERSON),
    f"人{TELEGRAM_PERSON}",
    KEY,
    TOKEN,
    TOKEN.partition(":")[2],
    ENCRYPTION_KEY,
    json.dumps("金丝雀")[1:-1],
)


class Telltale(FakeModelServer):
    """Its errors repeat what it was asked, as some endpoints' do."""

    async def _act(
        self, request: web.Request, body: dict[str, Any], behaviour: Behaviour
    ) -> web.StreamResponse:
        if not isinstance(behaviour, Status):
            return await super()._act(request, body, behaviour)
        told = f"cannot answer {body['messages'][-1]['content']} for {request.headers['Authorization']}"
        error = {"message": told, "type": told, "param": told, "code": told}
        return web.json_response({"error": error, "detail": told}, status=behaviour.code, reason="Told")


@dataclass
class Noisy:
    """What a program that had a bad day left behind."""

    folder: Path
    conversation_id: str
    stdout: str

    def lines(self, name: str) -> list[dict[str, Any]]:
        text = (self.folder / "log" / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def noisy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Noisy]:
    folder = tmp_path_factory.mktemp("noisy")
    model = Telltale()
    async with model, FakeTelegramApi() as telegram:
        settings = {
            "LLM_API_KEY": KEY,
            "LLM_BASE_URL": model.base_url,
            "DEFAULT_MODEL": MODEL,
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TELEGRAM_API_BASE_URL": telegram.base_url,
            "ENCRYPTION_KEY": ENCRYPTION_KEY,
            "BURST_QUIET_SECONDS": "0",
            "DEBUG": "true",
        }
        program = Program(folder, settings)
        await program.start()
        try:
            conversation_id = await have_a_bad_day(program, model, telegram)
        finally:
            await program.stop()
        yield Noisy(folder, conversation_id, program.output.read_text(encoding="utf-8"))


async def have_a_bad_day(program: Program, model: Telltale, telegram: FakeTelegramApi) -> str:
    """Everything that can be made to fail from outside fails once; the conversation of the one good answer."""
    async with aiohttp.ClientSession(program.url) as client:
        conversation_id = await talk_well(client)
        await talk_badly(client)
        model.behave(
            Status(500), Status(500), CutHalfWay(SAID), InvalidJson(), Status(400), HtmlPage(), Status(401)
        )
        for number in range(5):
            await ask(client, f"{SAID}{number}")
        await talk_on_telegram(telegram)
        await break_the_database(program, client)
    return conversation_id


async def ask(client: aiohttp.ClientSession, text: str, **headers: str) -> dict[str, Any]:
    body = {"message": text, "user_id": SOMEBODY}
    async with client.post("/chat", json=body, headers=headers) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


async def talk_well(client: aiohttp.ClientSession) -> str:
    answer = await ask(client, SAID, **{"X-Request-ID": "follow-me", "Idempotency-Key": IDEMPOTENCY_KEY})
    async with client.post("/chat/stream", json={"message": SAID, "user_id": SOMEBODY}) as response:
        assert "金丝雀" in (await response.read()).decode()
    return str(answer["conversation_id"])


async def talk_badly(client: aiohttp.ClientSession) -> None:
    json_type = {"Content-Type": "application/json"}
    for body in (
        f'{{"message": "{SAID}'.encode(),
        json.dumps({"message": SAID, "user_id": 5, SAID: SAID}).encode(),
        json.dumps({"message": SAID * 2000, "user_id": SOMEBODY}).encode(),
        SAID.encode("utf-16"),
        SAID.encode() * 10_000,
    ):
        async with client.post("/chat", data=body, headers=json_type) as response:
            assert response.status in (400, 413, 422)
    conflict = {"Idempotency-Key": IDEMPOTENCY_KEY}
    async with client.post(
        "/chat", json={"message": "canary", "user_id": SOMEBODY}, headers=conflict
    ) as response:
        assert response.status == 422
    for path in (f"/{SAID}", f"/chat/history?user_id={SOMEBODY}&before={SAID}", f"/health?x={SAID}"):
        async with client.get(
            path, headers={"User-Agent": SAID, "Referer": f"http://x/{SOMEBODY}"}
        ) as response:
            assert response.status in (200, 404, 422)
    for headers in (
        {"Authorization": f"Bearer {SOMEBODY}"},
        {"Host": f"{SOMEBODY}.example"},
        {"X-Request-ID": SAID},
    ):
        async with client.get("/chat/history", headers=headers) as response:
            assert response.status in (401, 403, 422)
    host, port = client._base_url.host, client._base_url.port  # type: ignore[union-attr]
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /{SOMEBODY} HTTP/9.9\r\n{SOMEBODY}: \x00\r\n\r\n".encode())
    await reader.read()
    writer.close()


async def talk_on_telegram(telegram: FakeTelegramApi) -> None:
    told = f"Bad Request: {SAID} to {TELEGRAM_PERSON}"
    telegram.fail_next("sendmessage", 500, told)
    telegram.fail_next("sendchataction", 400, told)
    telegram.fail_next("getupdates", 502, told)
    telegram.user_says(TELEGRAM_PERSON, SAID)
    await telegram.wait_for_sent(1, chat_id=TELEGRAM_PERSON)
    telegram.fail_next("sendmessage", 400, told)
    telegram.user_says(TELEGRAM_PERSON, f"{SAID} 再说一次")
    telegram.user_sends(TELEGRAM_PERSON, {"sticker": {"emoji": SAID}})
    await telegram.wait_until(lambda: telegram.calls["sendmessage:400"] == 1)
    telegram.block(TELEGRAM_PERSON)
    telegram.user_says(TELEGRAM_PERSON, f"{SAID} 最后一次")
    await telegram.wait_until(lambda: telegram.calls["sendmessage:403"] == 1)


async def break_the_database(program: Program, client: aiohttp.ClientSession) -> None:
    log = program.folder / "log" / "application.log"
    with closing(sqlite3.connect(program.folder / "data" / "xinyu.db", timeout=10)) as database:
        database.execute(
            "create trigger fault before insert on chat_messages begin select raise(abort, 'canary'); end"
        )
        database.commit()
        body = {"message": f"{SAID} 写不进去", "user_id": SOMEBODY}
        asking = asyncio.create_task(client.post("/chat", json=body))
        await until(lambda: "turn_failed" in log.read_text(encoding="utf-8"))
        asking.cancel()
        database.execute("update chat_messages set body = zeroblob(40)")
        database.commit()
    async with client.get("/chat/history", params={"user_id": SOMEBODY}) as response:
        assert response.status == 500


# --- what is there and what is not ----------------------------------------------------------------


@one_loop
async def test_no_words_no_people_no_secrets(noisy: Noisy) -> None:
    files = sorted((noisy.folder / "log").iterdir())
    assert [file.name for file in files] == ["access.log", "application.log", "error.log"]
    for name, text in [("output", noisy.stdout), *((file.name, file.read_text("utf-8")) for file in files)]:
        assert len(text) > 100, f"{name} tells nothing"
        for canary in CANARIES:
            assert canary not in text, f"{canary} in {name}"


@one_loop
async def test_what_went_wrong_is_told(noisy: Noisy) -> None:
    lines = noisy.lines("application.log")
    events = {line["event"] for line in lines}
    assert events >= {
        "started",
        "stopped",
        "model_call_failed",
        "model_unavailable",
        "turn_finished",
        "turn_failed",
        "delivery_failed",
        "recipient_gone",
        "request_failed",
    }
    reasons = {line["reason"] for line in lines if line["event"] == "model_call_failed"}
    assert reasons >= {"server_error", "cut_off", "invalid_json", "bad_request", "not_a_stream"}


@one_loop
async def test_lines_are_json_with_time_level_and_place(noisy: Noisy) -> None:
    for name in ("application.log", "error.log", "access.log"):
        for line in noisy.lines(name):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])
            assert line["level"] in ("debug", "info", "warning", "error", "critical")
            assert line["logger"] and line["event"]
            assert line.keys() <= logs.SAFE_KEYS


@one_loop
async def test_errors_have_a_file_of_their_own(noisy: Noisy) -> None:
    errors = [line["event"] for line in noisy.lines("error.log")]
    lines = [line for line in noisy.lines("application.log") if line["level"] in ("error", "critical")]
    assert errors == [line["event"] for line in lines]
    failed = next(line for line in lines if line["event"] == "turn_failed")
    assert "IntegrityError" in failed["exception"] and "turn_runner.py:" in failed["exception"]


@one_loop
async def test_the_access_log_names_routes_and_no_paths(noisy: Noisy) -> None:
    lines = noisy.lines("access.log")
    assert {line["event"] for line in lines} == {"request"}
    assert {line["route"] for line in lines} >= {"/chat", "/chat/stream", "/chat/history", "/health", "none"}
    assert all({"method", "route", "status", "ms", "request_id"} <= line.keys() for line in lines)
    assert not any(line["logger"] == "access" for line in noisy.lines("application.log"))


@one_loop
async def test_one_id_leads_from_the_request_to_the_turn(noisy: Noisy) -> None:
    (request,) = [line for line in noisy.lines("access.log") if line["request_id"] == "follow-me"]
    assert str(request["conversation_id"]) == noisy.conversation_id
    turns = [
        line
        for line in noisy.lines("application.log")
        if str(line.get("conversation_id")) == noisy.conversation_id and line["event"] == "turn_finished"
    ]
    assert turns and all(line["turn_id"] for line in turns)
    assert (turns[0]["platform"], turns[0]["outcome"]) == ("web", "answered")


OF_A_MESSAGE = {
    "model_call_failed",
    "model_unavailable",
    "turn_finished",
    "turn_failed",
    "delivery_failed",
    "recipient_gone",
    "typing_not_shown",
}


@one_loop
async def test_every_line_about_a_message_names_its_conversation(noisy: Noisy) -> None:
    lines = [line for line in noisy.lines("application.log") if line["event"] in OF_A_MESSAGE]
    assert {line["event"] for line in lines} >= OF_A_MESSAGE - {"typing_not_shown"}
    assert [line for line in lines if not line.get("conversation_id")] == []
    broken = [line for line in noisy.lines("application.log") if line["event"] == "request_failed"]
    requests = {line["request_id"]: line["status"] for line in noisy.lines("access.log")}
    assert broken and all(requests[line["request_id"]] == 500 for line in broken)


# --- how it is written ----------------------------------------------------------------------------


async def test_in_a_terminal_lines_are_for_people(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TERM": "xterm",
        "PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "run"), cwd=tmp_path, env=environ, stdin=its, stdout=its, stderr=its
    )
    os.close(its)

    def read(wanted: bytes) -> bytes:
        got = b""
        while wanted not in got:
            try:
                got += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
        return got

    try:
        async with asyncio.timeout(PATIENCE):
            shown = await asyncio.to_thread(read, b"started")
            process.send_signal(signal.SIGTERM)
            shown += await asyncio.to_thread(read, b"never")
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        os.close(ours)
    text = shown.decode()
    assert "XinYu is here: http://127.0.0.1:" in text
    assert "\x1b[" in text and '{"' not in text, "coloured lines, no JSON"
    assert re.search(r"started.*roles", text)
    written = (tmp_path / "log" / "application.log").read_text(encoding="utf-8")
    assert "\x1b" not in written
    assert {json.loads(line)["event"] for line in written.splitlines()} >= {"started", "stopped"}


def written_by(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "application.log").read_text("utf-8").splitlines()]


def test_files_are_turned_over_at_ten_megabytes_five_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (logs.FILE_BYTES, logs.FILE_COUNT) == (10 * 1024 * 1024, 5)
    monkeypatch.setattr(logs, "FILE_BYTES", 3000)
    with logs.logging_to(tmp_path, terminal=StringIO()):
        for number in range(500):
            structlog.get_logger("core").info("line", count=number)
    files = sorted(tmp_path.glob("application.log*"))
    assert [file.name for file in files] == [
        "application.log",
        *(f"application.log.{n}" for n in range(1, 6)),
    ]
    assert all(file.stat().st_size <= 3000 for file in files)
    assert written_by(tmp_path)[-1]["count"] == 499


def test_what_is_not_known_to_be_safe_is_left_out(tmp_path: Path) -> None:
    with logs.logging_to(tmp_path, terminal=StringIO()):
        structlog.get_logger("core").info("said", text=SAID, user_id=SOMEBODY, reason="x" * 1000)
    (line,) = written_by(tmp_path)
    assert line.keys() == {"event", "reason", "logger", "level", "timestamp"} and len(line["reason"]) == 200


def test_another_librarys_words_are_left_out_and_its_place_kept(tmp_path: Path) -> None:
    screen = StringIO()
    with logs.logging_to(tmp_path, terminal=screen):
        try:
            raise ValueError(SAID)
        except ValueError as error:
            logging.getLogger("somebody.elses").error("%s went wrong", SAID, exc_info=True)
            logging.getLogger("somebody.elses").info("not heard")
            try:
                raise ModelUnavailable("timeout") from error
            except XinYuError:
                structlog.get_logger("core").exception("ours")
    assert "canary" not in screen.getvalue() + (tmp_path / "application.log").read_text("utf-8")
    theirs, ours = written_by(tmp_path)
    assert theirs["event"] == "library_message" and theirs["where"].startswith("test_logs:")
    assert "builtins.ValueError" in theirs["exception"]
    assert "ModelUnavailable: timeout" in ours["exception"] and "caused by" in ours["exception"]


@pytest.mark.parametrize("shift", range(0, 60, 7))
def test_a_secret_is_hidden_wherever_it_stands(tmp_path: Path, shift: int) -> None:
    secrets = ("canary", "canary-secret-of-some-length")
    with logs.logging_to(tmp_path, secrets=secrets, terminal=StringIO()):
        structlog.get_logger("core").info("line", reason="x" * (logs.VALUE_LIMIT - shift) + secrets[1])
    (line,) = written_by(tmp_path)
    assert re.fullmatch(r"x+\**", line["reason"])
