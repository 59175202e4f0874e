"""Where things are kept: the encryption key, the database, vectors, Redis."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import aiohttp

from bot.compose import KEY_FILE
from bot.doctor.finding import Finding, State, Verdict
from bot.doctor.machine import nearest
from bot.doctor.surroundings import Surroundings
from bot.settings import Settings
from core.errors import ConfigError, KeyMismatch, StoreUnavailable
from storage.check import redis_version
from storage.keys import KeyRing, parse_key
from storage.sql.check import DatabaseFacts, Remark, Revision, look_at, some_data_key

LOOK_SECONDS = 5.0
OLDEST_REDIS = 5
"""Redis 5 brought streams."""
HEARTBEAT = "/api/v2/heartbeat"

# --- encryption key ---------------------------------------------------------------------------


async def encryption_key(around: Surroundings) -> Finding:
    return await asyncio.to_thread(_encryption_key, around.settings)


def _encryption_key(settings: Settings) -> Finding:
    name, file = "encryption_key", settings.data_dir / KEY_FILE
    advice_lost = f"从备份恢复 {file} · restore {file} from your backup"
    try:
        key = _key(settings, file)
    except OSError as error:
        found = f"{file}: 读不了 · cannot be read ({type(error).__name__})"
        return Finding(name, State.FAIL, found, "让此用户能读 · let this user read it")
    except (ConfigError, UnicodeDecodeError):
        if settings.encryption_key is not None:
            found = "ENCRYPTION_KEY 不是密钥 · is no key"
            return Finding(name, State.FAIL, found, "`xinyu keys encryption`")
        return Finding(name, State.FAIL, f"{file}: 里面不是密钥 · holds no key", advice_lost)
    sealed = _some_data_key(settings)
    if key is None:
        if sealed is not None:
            found = f"数据库有内容，却没有 {file} · the database has rows, but {file} is missing"
            return Finding(name, State.FAIL, found, advice_lost)
        return Finding(name, State.OK, f"{file}: 首次运行时生成 · made at the first run")
    try:
        if sealed is not None:
            KeyRing(key).check(sealed)
    except KeyMismatch:
        found = "打不开数据库里的内容 · it does not open the rows in the database"
        advice = "用写入时的那把密钥 · set the key they were written with (ENCRYPTION_KEY, " + KEY_FILE + ")"
        return Finding(name, State.FAIL, found, advice)
    if settings.encryption_key is not None:
        return Finding(name, State.OK, "ENCRYPTION_KEY 已设 · is set")
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding(name, State.WARN, f"{file}: 其他用户能看 · open to other users", f"`chmod 600 {file}`")
    return Finding(name, State.OK, f"{file} (600)；请备份 · keep a copy elsewhere")


def _key(settings: Settings, file: Path) -> bytes | None:
    if settings.encryption_key is not None:
        return parse_key(settings.encryption_key.get_secret_value())
    try:
        return parse_key(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


def _some_data_key(settings: Settings) -> bytes | None:
    try:
        return some_data_key(settings.store_url, LOOK_SECONDS)
    except StoreUnavailable:  # the database's own check says so
        return None


# --- database ---------------------------------------------------------------------------------

_RESTORE = "停下心语，恢复备份 · stop XinYu and restore a backup"
_DATABASE_TROUBLE = {
    "bad_url": ("DATABASE_URL 不对 · is not right", "mysql://user:password@host/db, sqlite:///path"),
    "unreachable": ("连不上 · unreachable", "启动它，或改地址 · start it, or set its right address"),
    "refused_login": (
        "拒绝登录 · refused the login",
        "看用户名、密码和授权 · look at user, password and grants",
    ),
    "no_such_database": (
        "没有这个库 · no such database",
        "建库 · make it: `CREATE DATABASE … CHARACTER SET utf8mb4`, `xinyu db upgrade`",
    ),
    "cannot_open": (
        "打不开 · cannot be opened",
        "看权限，以及谁占着 · look at its permissions and who holds it",
    ),
    "damaged": ("文件损坏 · the file is damaged", _RESTORE),
}
_REMARKS = {
    Remark.NOT_WAL: Verdict(State.OK, "WAL 在运行时打开 · WAL comes with the next run", ""),
    Remark.UNFINISHED: Verdict(State.OK, "太大，没有查完 · too large to be checked whole", ""),
    Remark.READ_ONLY: Verdict(
        State.FAIL, "不可写 · not writable", "让此用户能写它和它的文件夹 · chown it and its folder"
    ),
    Remark.BUSY: Verdict(
        State.WARN,
        "写锁一直被占 · somebody holds the write lock",
        "结束占用它的程序 · end the program that holds it (`fuser`)",
    ),
    Remark.OLD_SERVER: Verdict(State.WARN, "太旧 · too old", "MySQL ≥ 8.0, MariaDB ≥ 10.6"),
    Remark.NOT_UTF8MB4: Verdict(
        State.WARN, "不是 utf8mb4 · not utf8mb4", "`ALTER DATABASE … CHARACTER SET utf8mb4`"
    ),
}


async def database(around: Surroundings) -> Finding:
    url = around.settings.store_url
    embedded = url.startswith("sqlite")
    try:
        facts = await asyncio.to_thread(look_at, url, LOOK_SECONDS)
    except StoreUnavailable as trouble:
        found, advice = _DATABASE_TROUBLE[str(trouble)]
        return Finding("database", State.FAIL, f"{'SQLite' if embedded else 'MySQL'}: {found}", advice)
    if facts is None:
        return await asyncio.to_thread(_not_there_yet, url)
    return _judge(facts, embedded)


def _not_there_yet(url: str) -> Finding:
    folder = nearest(Path(url.removeprefix("sqlite:///")).parent)
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Finding("database", State.OK, "SQLite: 首次运行时建立 · made at the first run")
    found = f"SQLite: 不能在 {folder} 里建立 · cannot be made in {folder}"
    return Finding("database", State.FAIL, found, "DATA_DIR, DATABASE_URL; chown, chmod")


def _judge(facts: DatabaseFacts, embedded: bool) -> Finding:
    verdicts = [_of_revision(facts, embedded), *(_REMARKS[remark] for remark in facts.remarks)]
    worst = next(
        state for state in (State.FAIL, State.WARN, State.OK) if any(v.state is state for v in verdicts)
    )
    found = "；".join([facts.version, *(verdict.found for verdict in verdicts)])
    return Finding("database", worst, found, "；".join(v.advice for v in verdicts if v.advice))


def _of_revision(facts: DatabaseFacts, embedded: bool) -> Verdict:
    upgrade = "`xinyu db upgrade`"
    match facts.revision:
        case Revision.CURRENT:
            return Verdict(State.OK, f"版本 · revision {facts.revision_name}", "")
        case Revision.NONE if embedded:
            return Verdict(State.OK, "表在首次运行时建立 · tables are made at the first run", "")
        case Revision.NONE:
            return Verdict(State.FAIL, "还没有表 · no tables yet", upgrade)
        case Revision.OLDER:
            found = f"版本落后 · revision {facts.revision_name} is behind"
            return Verdict(State.WARN if embedded else State.FAIL, found, upgrade)
    return Verdict(
        State.FAIL,
        "版本不认识 · a revision that this program does not know",
        "更新心语 · upgrade XinYu",
    )


# --- vectors and Redis ------------------------------------------------------------------------


async def vector_store(around: Surroundings) -> Finding:
    unused = "本版本还没有用到知识库 · knowledge is not in use yet in this version"
    url = around.settings.chroma_url
    if url is None:
        return Finding("vector_store", State.SKIPPED, unused)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LOOK_SECONDS)) as session,
            session.get(url + HEARTBEAT) as response,
        ):
            alive = response.status == 200 and "nanosecond heartbeat" in await response.json()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, TypeError):
        alive = False
    if alive:
        return Finding("vector_store", State.OK, f"Chroma 有心跳 · answers; {unused}")
    return Finding(
        "vector_store", State.FAIL, "Chroma 没有回应 · does not answer", "启动它，或改 CHROMA_URL · start it"
    )


async def redis(around: Surroundings) -> Finding:
    url = around.settings.redis_url
    if url is None:
        return Finding(
            "redis", State.SKIPPED, "没有设 REDIS_URL，单进程不需要 · not set; one process needs none"
        )
    try:
        version = await redis_version(url.get_secret_value(), LOOK_SECONDS)
    except StoreUnavailable as trouble:
        found, advice = _REDIS_TROUBLE[str(trouble)]
        return Finding("redis", State.FAIL, found, advice)
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < OLDEST_REDIS:
        return Finding("redis", State.FAIL, f"Redis {version}: 太旧 · too old", "Redis ≥ 5 (Streams)")
    return Finding("redis", State.OK, f"Redis {version or '?'} 有回应 · answers")


_REDIS_TROUBLE = {
    "bad_url": ("REDIS_URL 不对 · is not right", "redis://host:6379/0"),
    "refused_login": (
        "拒绝登录 · refused the login",
        "看用户名和密码 · look at user and password: redis://user:password@host:6379/0",
    ),
    "unreachable": ("连不上 · unreachable", "启动它，或改 REDIS_URL · start it, or set its right address"),
}
