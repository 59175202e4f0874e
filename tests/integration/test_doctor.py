"""`xinyu doctor` as an operator runs it: a process of its own, among real files, servers and the fakes of platforms."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from alembic.script import ScriptDirectory

from storage.sql.revision import MIGRATIONS, newest
from tests.fakes.model_server import (
    KEY,
    MODEL,
    Behaviour,
    EmptyStream,
    FakeModelServer,
    HtmlPage,
    InvalidJson,
    Silent,
    Status,
)
from tests.fakes.program import Program, free_port
from tests.fakes.telegram_api import TOKEN, FakeTelegramApi
from tests.services import MariaDb, RedisServer

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60.0
WRONG_TOKEN = "123456789:AAnotTheTokenOfAnyBot-0123456789abc"
ENCRYPTION_KEY = base64.b64encode(b"k" * 32).decode()
SECRETS = re.compile(r"_(KEY|TOKEN|SECRET|PASSWORD|PATH_TOKEN)$")


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str

    @property
    def findings(self) -> list[dict[str, str]]:
        findings: list[dict[str, str]] = json.loads(self.output)
        return findings

    def all(self, name: str) -> list[dict[str, str]]:
        return [finding for finding in self.findings if finding["name"] == name]

    def one(self, name: str) -> dict[str, str]:
        (finding,) = self.all(name)
        return finding

    def state(self, name: str) -> str:
        return self.one(name)["state"]


async def xinyu(
    folder: Path,
    settings: dict[str, str],
    *arguments: str,
    prefix: tuple[str, ...] = (),
    stdout: int = asyncio.subprocess.PIPE,
) -> Outcome:
    """Run one command to its end. `prefix`: a program that starts it in some special way."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *(sys.executable, "-m", "bot", *arguments),
        cwd=folder,
        env={
            **kept,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PORT": str(free_port()),
            **settings,
        },
        stdout=stdout,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    text = (output or b"").decode()
    for name, value in settings.items():
        if SECRETS.search(name) and len(value) > 4:
            assert value not in text, f"{name} was printed"
    assert process.returncode is not None
    return Outcome(process.returncode, text)


async def doctor(folder: Path, settings: dict[str, str] | None = None, **how: Any) -> Outcome:
    """`xinyu doctor --json`."""
    return await xinyu(folder, settings or {}, "doctor", "--json", **how)


def with_model(server: FakeModelServer) -> dict[str, str]:
    return {"LLM_API_KEY": KEY, "LLM_BASE_URL": server.base_url, "DEFAULT_MODEL": MODEL}


def with_telegram(api: FakeTelegramApi) -> dict[str, str]:
    return {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_API_BASE_URL": api.base_url}


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


async def upgraded(folder: Path) -> Path:
    """A database made by `xinyu db upgrade`."""
    made = await xinyu(folder, {}, "db", "upgrade")
    assert made.code == 0, made.output
    (folder / "data").chmod(0o700)
    return folder / "data" / "xinyu.db"


@asynccontextmanager
async def served(answer: Callable[[web.Request], web.StreamResponse]) -> AsyncIterator[str]:
    """An HTTP server that answers everything in one way; its address."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


# --- the whole --------------------------------------------------------------------------------


async def test_where_all_is_well_it_says_so_and_changes_nothing(tmp_path: Path) -> None:
    await upgraded(tmp_path)
    before = contents(tmp_path)
    async with FakeModelServer() as model, FakeTelegramApi() as api:
        outcome = await doctor(tmp_path, {**with_model(model), **with_telegram(api)})
    assert outcome.code == 0, outcome.output
    unwell = [f for f in outcome.findings if f["state"] not in ("ok", "skipped")]
    assert unwell == []
    assert {f["name"] for f in outcome.findings if f["state"] == "skipped"} == {
        *("config_file", "vector_store", "redis", "wechat", "discord")
    }
    assert all(set(f) == {"name", "state", "found", "advice"} for f in outcome.findings)
    assert MODEL in outcome.one("model")["found"]
    assert "ms" in outcome.one("model")["found"]
    assert "@xinyu_fake_bot" in outcome.one("telegram")["found"]
    assert str(newest()) in outcome.one("database")["found"]
    assert len(model.requests) == 1
    assert set(api.calls) == {"getme", "getme:200", "getwebhookinfo", "getwebhookinfo:200"}
    assert contents(tmp_path) == before


async def test_where_nothing_is_yet_it_makes_nothing(tmp_path: Path) -> None:
    outcome = await doctor(tmp_path)
    assert outcome.code == 0, outcome.output
    assert contents(tmp_path) == {}
    assert outcome.state("settings") == "ok"
    assert outcome.state("model") == "warn"  # no key: the offline listener
    for name in ("encryption_key", "database", "data_folder", "log_folder"):
        assert outcome.state(name) == "ok", name
        assert "首次运行" in outcome.one(name)["found"]
    assert outcome.state("clock") == "skipped"


async def test_wrong_settings_are_all_told_and_the_machine_is_looked_at_still(tmp_path: Path) -> None:
    async with FakeModelServer() as model:
        (tmp_path / "config.env").write_text(
            f"MAX_TURNS=many\nWORKERS=4\nTELEGRAM_MODE=pigeon\nLLM_BASE_ULR=x\nLLM_API_KEY={KEY}\n"
            f"LLM_BASE_URL={model.base_url}\nsk-0123456789abcdef\nMYSQL_PASSWORD=a-password-of-mine\nMYSQL_HOST=db\n"
        )
        outcome = await doctor(tmp_path)
        assert not model.requests  # a key goes nowhere while its address may be wrong
    assert outcome.code == 2
    problems = outcome.all("settings")
    assert {f["found"].partition(":")[0] for f in problems} == {
        *("MAX_TURNS", "WORKERS", "TELEGRAM_MODE", "LLM_BASE_ULR", "MYSQL_USER", "ENCRYPTION_KEY", "sk-…")
    }
    assert all(f["state"] == "fail" and f["advice"] for f in problems)
    for name in ("disk", "data_folder", "log_folder", "clock", "time_zone", "python"):
        assert outcome.state(name) == "ok", name
    for name in ("database", "model", "telegram", "port", "encryption_key"):
        assert outcome.state(name) == "skipped", name
    assert outcome.state("config_file") == "warn"  # 644 with a password in it
    assert "chmod 600" in outcome.one("config_file")["advice"]
    assert KEY not in outcome.output
    assert "0123456789abcdef" not in outcome.output
    assert "a-password-of-mine" not in outcome.output


async def test_wrong_settings_of_the_environment(tmp_path: Path) -> None:
    outcome = await doctor(tmp_path, {"MAX_TURNS": "many", "LLM_BASE_URL": "nowhere", "WORKERS": "4"})
    assert outcome.code == 2
    names = {finding["found"].partition(":")[0] for finding in outcome.all("settings")}
    assert names == {"MAX_TURNS", "LLM_BASE_URL", "WORKERS"}
    assert outcome.state("disk") == "ok"


async def test_what_only_shows_when_a_setting_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    wrong = {"PERSONA_FILE": "empty.toml", "PRICES_FILE": "config.txt"}
    (tmp_path / "config.txt").write_text("no TOML at all")
    outcome = await doctor(tmp_path, {**wrong, "DEBUG": "true", "HOST": "0.0.0.0"})
    assert outcome.code == 2
    assert {(f["found"].partition(" ")[0].rstrip(":"), f["state"]) for f in outcome.all("settings")} == {
        ("PERSONA_FILE", "fail"),
        ("PRICES_FILE", "fail"),
        ("DEBUG=true，而外面能访问", "warn"),
    }
    assert outcome.state("database") == "ok"


@pytest.mark.parametrize("no_color", ["", "1"])
async def test_a_terminal_gets_marks_and_colours_unless_it_wants_none(tmp_path: Path, no_color: str) -> None:
    ours, theirs = os.openpty()
    reading = asyncio.create_task(asyncio.to_thread(read_all, ours))
    try:
        outcome = await xinyu(tmp_path, {"NO_COLOR": no_color}, "doctor", stdout=theirs)
    finally:
        os.close(theirs)
        shown = (await reading).decode()
        os.close(ours)
    assert outcome.code == 0
    if no_color:
        assert "\x1b" not in shown
        assert "✓" not in shown
        assert shown.startswith("ok ")
    else:
        assert shown.startswith("\x1b[32m✓\x1b[0m")
        assert "\x1b[33m!\x1b[0m" in shown


def read_all(terminal: int) -> bytes:
    """Until nobody holds its other end any more."""
    shown = b""
    with suppress(OSError):  # EIO is a terminal's end of file
        while piece := os.read(terminal, 4096):
            shown += piece
    return shown


async def test_into_a_pipe_it_writes_a_plain_line_for_each_check(tmp_path: Path) -> None:
    outcome = await xinyu(tmp_path, {}, "doctor")
    lines = outcome.output.splitlines()
    assert len(lines) == 18
    assert all(re.match(r"(ok|warn|fail|skipped) +\S+", line) for line in lines)
    assert "\x1b" not in outcome.output
    assert all("→" in line for line in lines if line.startswith(("warn", "fail")))


async def test_a_file_that_hangs_holds_up_neither_the_others_nor_the_exit(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "data" / "encryption.key")  # opening it waits for ever
    began = time.monotonic()
    outcome = await doctor(tmp_path)
    assert time.monotonic() - began < 25
    assert outcome.code == 1
    assert outcome.state("encryption_key") == "fail"
    assert outcome.state("database") == "ok"


# --- models -----------------------------------------------------------------------------------


async def test_each_trouble_of_a_model_has_its_own_line_and_advice(tmp_path: Path) -> None:
    behaviours: dict[str, Behaviour] = {
        "refused_key": Status(401),
        "no_such_model": Status(404),
        "rate_limited": Status(429),
        "server_error": Status(503),
        "bad_request": Status(400),
        "content_filter": Status(400, error_code="content_filter"),
        "not_a_stream": HtmlPage(),
        "empty": EmptyStream(),
        "invalid_json": InvalidJson(),
        "silent": Silent(),
    }
    servers = {reason: FakeModelServer(default=behaviour) for reason, behaviour in behaviours.items()}
    async with FakeModelServer() as well:
        for server in servers.values():
            await server.start()
        try:
            entries = [f"{reason}@{server.base_url}" for reason, server in servers.items()]
            entries.append(f"unreachable@http://127.0.0.1:{free_port()}/v1")
            outcome = await doctor(tmp_path, {**with_model(well), "FALLBACK_MODELS": ",".join(entries)})
        finally:
            for server in servers.values():
                await server.stop()
    assert outcome.code == 1
    first, *others = outcome.all("model")
    assert (first["state"], first["advice"]) == ("ok", "")
    assert len(others) == len(behaviours) + 1
    advice = set()
    for finding, reason in zip(others, [*behaviours, "unreachable"], strict=True):
        assert finding["found"].startswith(f"{reason} @ 127.0.0.1: "), finding
        assert finding["found"].endswith(f"({reason})"), finding
        assert finding["state"] == ("warn" if reason in ("rate_limited", "empty") else "fail")
        assert finding["advice"]
        advice.add(finding["advice"])
    assert len(advice) >= 8


async def test_a_wrong_key_fails_and_is_not_shown(tmp_path: Path) -> None:
    async with FakeModelServer() as model:
        outcome = await doctor(tmp_path, {**with_model(model), "LLM_API_KEY": "sk-somebody-elses-key"})
    assert outcome.code == 1
    assert "refused_key" in outcome.one("model")["found"]
    assert "LLM_API_KEY" in outcome.one("model")["advice"]


# --- Telegram ---------------------------------------------------------------------------------


async def test_a_wrong_telegram_token(tmp_path: Path) -> None:
    async with FakeTelegramApi() as api:
        outcome = await doctor(tmp_path, {**with_telegram(api), "TELEGRAM_BOT_TOKEN": WRONG_TOKEN})
    assert outcome.code == 1
    assert "refused_token" in outcome.one("telegram")["found"]
    assert "@BotFather" in outcome.one("telegram")["advice"]


async def test_a_telegram_that_hangs_is_not_waited_for_long(tmp_path: Path) -> None:
    async with FakeTelegramApi() as api:
        api.silence()
        outcome = await doctor(tmp_path, with_telegram(api))
    assert outcome.code == 1
    assert "(timeout)" in outcome.one("telegram")["found"]
    assert outcome.state("disk") == "ok"


FRONTS = {"https://xinyu.example": "http://127.0.0.1:1", "https://other.example": "http://127.0.0.1:1"}
WEBHOOK = {
    "TELEGRAM_MODE": "webhook",
    "PUBLIC_URL": "https://xinyu.example",
    "TELEGRAM_WEBHOOK_SECRET": "the-secret-of-the-webhook",
}


async def set_webhook(api: FakeTelegramApi, url: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{api.base_url}/bot{TOKEN}/setWebhook", json={"url": url}) as response,
    ):
        assert response.status == 200


async def test_the_last_delivery_error_of_the_webhook(tmp_path: Path) -> None:
    async with FakeTelegramApi(fronts=FRONTS) as api:
        await set_webhook(api, "https://xinyu.example/webhooks/telegram")
        well = await doctor(tmp_path, {**with_telegram(api), **WEBHOOK})
        api.user_says(7, "我今天很难过")
        async with asyncio.timeout(PATIENCE):
            while not await _last_error(api):
                await asyncio.sleep(0.02)  # the error shows in the answer alone
        unwell = await doctor(tmp_path, {**with_telegram(api), **WEBHOOK})
        assert api.pending_count == 1
    assert well.state("telegram") == "ok"
    assert (unwell.code, unwell.state("telegram")) == (0, "warn")
    found = unwell.one("telegram")["found"]
    assert "Connection refused" in found
    assert "1 条在等" in found
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", found)
    assert "我今天很难过" not in unwell.output


async def _last_error(api: FakeTelegramApi) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{api.base_url}/bot{TOKEN}/getWebhookInfo") as response,
    ):
        return str((await response.json())["result"].get("last_error_message", ""))


async def test_somebody_elses_webhook_is_named_by_its_host_alone(tmp_path: Path) -> None:
    async with FakeTelegramApi(fronts=FRONTS) as api:
        await set_webhook(api, f"https://other.example/{TOKEN}")
        polling = await doctor(tmp_path, with_telegram(api))
        webhook = await doctor(tmp_path, {**with_telegram(api), **WEBHOOK})
        assert api.webhook_url == f"https://other.example/{TOKEN}"
    assert polling.state("telegram") == "ok"
    assert "other.example" in polling.one("telegram")["found"]
    assert webhook.state("telegram") == "warn"
    assert "other.example" in webhook.one("telegram")["found"]


# --- encryption key and database --------------------------------------------------------------


async def test_beside_the_running_program_and_with_what_it_wrote(tmp_path: Path) -> None:
    said = "这件事我只告诉你"
    async with FakeModelServer() as model, FakeTelegramApi() as api:
        settings = {**with_model(model), **with_telegram(api)}
        program = Program(tmp_path, settings)
        await program.start()
        try:
            await api.wait_until(lambda: api.polling == 1)
            api.user_says(7, said)
            await api.wait_for_sent(1)
            beside = await doctor(tmp_path, {**settings, "PORT": str(program.port)})
            await api.wait_until(lambda: api.polling == 1)
            api.user_says(7, "还在吗")
            await api.wait_for_sent(2)
        finally:
            assert await program.stop() == 0
        assert api.conflicts == 0
    (tmp_path / "data").chmod(0o700)
    key_file = tmp_path / "data" / "encryption.key"
    stopped = await doctor(tmp_path)
    wrong = await doctor(tmp_path, {"ENCRYPTION_KEY": ENCRYPTION_KEY})
    key_file.chmod(0o644)
    seen = await doctor(tmp_path)
    key_file.rename(tmp_path / "kept")
    lost = await doctor(tmp_path)
    key_file.write_text("no key\n")
    broken = await doctor(tmp_path)

    assert (beside.code, beside.state("port")) == (0, "ok")
    assert "心语在运行" in beside.one("port")["found"]
    assert beside.state("database") == beside.state("encryption_key") == "ok"
    assert (stopped.code, stopped.state("encryption_key")) == (0, "ok")
    assert (wrong.code, wrong.state("encryption_key")) == (1, "fail")
    assert (seen.code, seen.state("encryption_key")) == (0, "warn")
    assert f"chmod 600 {Path('data/encryption.key')}" in seen.one("encryption_key")["advice"]
    assert (lost.code, lost.state("encryption_key")) == (1, "fail")
    assert not (tmp_path / "data" / "encryption.key.tmp").exists()
    assert (broken.code, broken.state("encryption_key")) == (1, "fail")
    for outcome in (beside, stopped, wrong, lost, broken):
        assert said not in outcome.output
        assert (tmp_path / "kept").read_text().strip() not in outcome.output


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _scribble(path: Path) -> None:
    page = 4096
    data = bytearray(path.read_bytes())
    for start in range(page, len(data), page):
        data[start : start + 64] = b"\xa5" * 64
    path.write_bytes(data)


def _replace(path: Path) -> None:
    path.write_text("这不是数据库" * 100)


@pytest.mark.parametrize("damage", [_cut, _scribble, _replace])
async def test_a_damaged_database(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(await upgraded(tmp_path))
    before = contents(tmp_path)
    outcome = await doctor(tmp_path)
    assert (outcome.code, outcome.state("database")) == (1, "fail")
    assert "damaged" in outcome.one("database")["found"]
    assert contents(tmp_path) == before


async def test_revisions(tmp_path: Path) -> None:
    path = await upgraded(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = await doctor(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (newest(),))
    assert (await xinyu(tmp_path, {}, "db", "downgrade", "base")).code == 0
    none = await doctor(tmp_path)
    assert (newer.code, newer.state("database")) == (1, "fail")
    assert "更新心语" in newer.one("database")["advice"]
    assert (none.code, none.state("database")) == (0, "ok")
    assert "首次运行" in none.one("database")["found"]


async def test_the_same_bot_running_twice_is_told(tmp_path: Path) -> None:
    async with FakeModelServer() as model, FakeTelegramApi() as api:
        settings = {**with_model(model), **with_telegram(api)}
        one, other = Program(tmp_path / "one", settings), Program(tmp_path / "other", settings)
        await one.start()
        await other.start()
        try:
            await api.wait_until(lambda: api.conflicts >= 3)  # by now each waits before it comes again
            beside = [
                await doctor(program.folder, {**settings, "PORT": str(program.port)})
                for program in (one, other)
            ]
        finally:
            await one.stop()
            await other.stop()
    told = [found.one("port") for found in beside]
    assert any("another_poller_or_webhook" in finding["found"] for finding in told), told
    assert any("stop one of them" in finding.get("advice", "") for finding in told)


async def test_a_database_of_an_older_program(tmp_path: Path) -> None:
    revisions = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    if len(revisions) < 2:
        pytest.skip("there is only one revision yet")
    await upgraded(tmp_path)
    assert (await xinyu(tmp_path, {}, "db", "downgrade", revisions[1])).code == 0
    outcome = await doctor(tmp_path)
    assert (outcome.code, outcome.state("database")) == (0, "warn")  # `xinyu run` upgrades SQLite by itself
    assert "xinyu db upgrade" in outcome.one("database")["advice"]


async def test_a_held_write_lock_and_a_log_that_a_crash_left(tmp_path: Path) -> None:
    path = await upgraded(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode = WAL")
        holder.execute("BEGIN IMMEDIATE")
        holder.execute("INSERT INTO alembic_version VALUES ('other')")
        held = await doctor(tmp_path)
        holder.execute("ROLLBACK")
        holder.execute("CREATE TABLE in_the_log (a)")
        log = path.with_name("xinyu.db-wal")
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for file in (path, log):  # as kill -9 leaves them
            (crashed / file.name).write_bytes(file.read_bytes())
    url = {"DATABASE_URL": f"sqlite:///{crashed / 'xinyu.db'}"}
    before = contents(crashed)
    after_crash = await doctor(tmp_path, url)
    assert (held.code, held.state("database")) == (0, "warn")
    assert after_crash.state("database") == "ok"
    assert {name: contents(crashed)[name] for name in before} == before


async def test_a_database_server(tmp_path: Path, mariadb: MariaDb, redis: RedisServer) -> None:
    settings = {"DATABASE_URL": mariadb.fresh_database(), "ENCRYPTION_KEY": ENCRYPTION_KEY}
    empty = await doctor(tmp_path, settings)
    assert (await xinyu(tmp_path, settings, "db", "upgrade")).code == 0
    whole = await doctor(tmp_path, settings)
    name = settings["DATABASE_URL"].rpartition("/")[2]
    mariadb.run(f"ALTER DATABASE {name} CHARACTER SET latin1")
    latin = await doctor(tmp_path, settings)
    missing = await doctor(tmp_path, {**settings, "DATABASE_URL": mariadb.url("no_such")})
    url = f"mysql://xinyu:a-password-of-mine@127.0.0.1:{mariadb.port}/test_1"
    refused = await doctor(tmp_path, {**settings, "DATABASE_URL": url})
    away = await doctor(
        tmp_path, {**settings, "DATABASE_URL": f"mysql://root:a-password-of-mine@127.0.0.1:{free_port()}/x"}
    )
    mariadb.pause()
    redis.pause()
    try:
        hanging = await doctor(tmp_path, {**settings, "REDIS_URL": redis.url()})
    finally:
        mariadb.resume()
        redis.resume()
    assert hanging.state("database") == hanging.state("redis") == "fail"
    assert "unreachable" in hanging.one("database")["found"]
    assert (empty.code, empty.state("database")) == (1, "fail")
    assert "xinyu db upgrade" in empty.one("database")["advice"]
    assert whole.state("database") == "ok", whole.output
    assert "MariaDB 1" in whole.one("database")["found"]
    assert whole.state("encryption_key") == "ok"
    assert (latin.code, latin.state("database")) == (0, "warn")
    assert "utf8mb4" in latin.one("database")["found"]
    assert "no such database" in missing.one("database")["found"]
    assert "refused the login" in refused.one("database")["found"]
    assert "unreachable" in away.one("database")["found"]
    assert refused.code == away.code == missing.code == 1
    assert "a-password-of-mine" not in refused.output + away.output


async def test_redis_and_chroma(tmp_path: Path, redis: RedisServer) -> None:
    async with served(
        lambda request: web.json_response({"nanosecond heartbeat": 1}, status=_heartbeat(request))
    ) as chroma:
        well = await doctor(tmp_path, {"REDIS_URL": redis.url(), "CHROMA_URL": chroma})
    wrong = {"REDIS_URL": f"redis://me:a-password-of-mine@127.0.0.1:{redis.port}/0", "CHROMA_URL": chroma}
    refused = await doctor(tmp_path, wrong)
    away = await doctor(tmp_path, {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"})
    malformed = await doctor(tmp_path, {"REDIS_URL": "a-password-of-mine"})
    assert well.code == 0, well.output
    assert re.search(r"Redis \d+\.\d+", well.one("redis")["found"])
    assert well.state("vector_store") == "ok"
    assert refused.state("redis") == refused.state("vector_store") == away.state("redis") == "fail"
    assert "refused the login" in refused.one("redis")["found"]
    assert "unreachable" in away.one("redis")["found"]
    assert malformed.code == 2 and "REDIS_URL" in malformed.one("settings")["found"]
    assert "a-password-of-mine" not in refused.output + malformed.output


def _heartbeat(request: web.Request) -> int:
    return 200 if request.path == "/api/v2/heartbeat" else 404


# --- the machine ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "state", "code"),
    [
        (timedelta(), "ok", 0),
        (timedelta(seconds=90), "warn", 0),
        (timedelta(seconds=-90), "warn", 0),
        (timedelta(hours=1), "fail", 1),
    ],
)
async def test_the_clock_beside_a_servers(tmp_path: Path, off: timedelta, state: str, code: int) -> None:
    def tell(request: web.Request) -> web.Response:
        assert "Authorization" not in request.headers or request.method != "HEAD"
        date = format_datetime(datetime.now(UTC) + off, usegmt=True)
        return web.Response(status=429, headers={"Date": date})  # a model that is busy, which is a warning

    async with served(tell) as server:
        outcome = await doctor(tmp_path, {"LLM_API_KEY": KEY, "LLM_BASE_URL": server})
    assert (outcome.state("clock"), outcome.code) == (state, code), outcome.output


async def test_a_second_server_that_agrees_is_believed(tmp_path: Path) -> None:
    def tell(request: web.Request) -> web.Response:
        date = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
        return web.Response(status=429, headers={"Date": date})

    async with served(tell) as server, FakeTelegramApi() as api:
        outcome = await doctor(tmp_path, {"LLM_API_KEY": KEY, "LLM_BASE_URL": server, **with_telegram(api)})
    assert outcome.state("clock") == "ok"


@pytest.fixture
def silent_stranger() -> Iterator[int]:
    """A port where somebody listens and never says a word."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


async def test_a_port_that_a_stranger_took(tmp_path: Path, silent_stranger: int) -> None:
    silent = await doctor(tmp_path, {"PORT": str(silent_stranger)})
    async with served(lambda _: web.json_response(["ok"])) as server:
        talking = await doctor(tmp_path, {"PORT": server.rpartition(":")[2]})
    elsewhere = await doctor(tmp_path, {"HOST": "192.0.2.1"})
    for outcome in (silent, talking):
        assert (outcome.code, outcome.state("port")) == (1, "fail")
        assert "PORT" in outcome.one("port")["advice"]
    assert (elsewhere.code, elsewhere.state("port")) == (1, "fail")
    assert "HOST" in elsewhere.one("port")["advice"]


async def test_few_files_open_folders_and_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    (tmp_path / "log").write_text("not a folder")
    outcome = await doctor(tmp_path, prefix=("sh", "-c", 'ulimit -n 1024; exec "$@"', "sh"))
    assert outcome.code == 1
    assert outcome.state("open_files") == "warn"
    assert outcome.state("data_folder") == "warn"
    assert "chmod 700 data" in outcome.one("data_folder")["advice"]
    assert outcome.state("log_folder") == "fail"
    assert (await doctor(tmp_path, {"DATA_DIR": "log/data"})).state("data_folder") == "fail"


async def test_a_full_disk(tmp_path: Path) -> None:
    outcome = await doctor(tmp_path, {"DATA_DIR": "/proc/xinyu"})  # a file system that never has room
    assert (outcome.code, outcome.state("disk")) == (1, "fail")
    assert "500 MB" in outcome.one("disk")["advice"]


async def test_folders_that_the_user_may_not_write(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    key_file = tmp_path / "data" / "encryption.key"
    key_file.write_text(ENCRYPTION_KEY)
    key_file.chmod(0)
    with not_writable(tmp_path / "data", tmp_path):
        outcome = await doctor(tmp_path, prefix=as_one_of_many())
    assert outcome.code == 1
    assert outcome.state("data_folder") == outcome.state("log_folder") == "fail"
    assert "chown" in outcome.one("data_folder")["advice"]
    assert outcome.state("encryption_key") == "fail"
    assert outcome.state("database") == "fail"  # cannot be made here


@contextmanager
def not_writable(*folders: Path) -> Iterator[None]:
    for folder in folders:
        folder.chmod(0o555)
    yield
    for folder in folders:
        folder.chmod(0o755)


def as_one_of_many() -> tuple[str, ...]:
    """What takes root's power over files away: otherwise root may do everything."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("without setpriv root cannot be anything less")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
