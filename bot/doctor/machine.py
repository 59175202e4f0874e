"""The machine: Python, open files, clock, time zone, disk, permissions, port."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import platform
import re
import resource
import shutil
import stat
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version as version_of
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import aiohttp

from bot.compose import model_endpoints
from bot.doctor.finding import Finding, State
from bot.doctor.surroundings import Surroundings
from bot.settings import Settings

OLDEST_PYTHON = (3, 11)
FEWEST_FILES = 4096
MEGABYTE = 1024 * 1024
LOW_DISK, NO_DISK = 500 * MEGABYTE, 50 * MEGABYTE
CLOCK_ODD, CLOCK_WRONG = timedelta(seconds=30), timedelta(minutes=5)
HTTP_SECONDS = 5.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what the operator may have set
_SECRET_NAME = re.compile(r"_(KEY|TOKEN|SECRET|PASSWORD)$|^(DATABASE|REDIS)_URL$")


async def python(around: Surroundings) -> Finding:
    found = f"Python {platform.python_version()}, 心语 XinYu {version_of('xinyu')}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding("python", State.FAIL, found, "需要 3.11 或更新 · needs 3.11 or newer")
    return Finding("python", State.OK, found)


async def open_files(around: Surroundings) -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return Finding("open_files", State.OK, "不限 · unlimited")
    found = f"最多 {limit} 个 · at most {limit}"
    if limit < FEWEST_FILES:
        return Finding(
            "open_files",
            State.WARN,
            found,
            "人多时会不够：`ulimit -n 65536`，systemd 用 LimitNOFILE=65536 · too few for many people at once: "
            "`ulimit -n 65536`, LimitNOFILE=65536 under systemd",
        )
    return Finding("open_files", State.OK, found)


# --- time -------------------------------------------------------------------------------------


async def time_zone(around: Surroundings) -> Finding:
    name = around.settings.timezone
    return Finding("time_zone", State.OK, f"{name}, {datetime.now(ZoneInfo(name)):%Y-%m-%d %H:%M}")


async def clock(around: Surroundings) -> Finding:
    """Beside the Date header of the servers that are set up; no key is sent."""
    offsets = await asyncio.gather(*map(_offset, _time_sources(around.settings)))
    told = [offset for offset in offsets if offset is not None]
    if not told:
        return Finding("clock", State.SKIPPED, "没有服务器报时 · no server told the time")
    off = min(told, key=abs)  # a second server that agrees with us is right rather than the first
    seconds = round(abs(off).total_seconds())
    way = "慢 · behind" if off > timedelta() else "快 · ahead"
    if abs(off) <= CLOCK_ODD:
        return Finding("clock", State.OK, f"相差不到 {CLOCK_ODD.seconds} 秒 · within {CLOCK_ODD.seconds} s")
    state = State.FAIL if abs(off) > CLOCK_WRONG else State.WARN
    advice = "对时 · set it: `timedatectl set-ntp true`"
    return Finding("clock", state, f"{seconds} s {way}", advice)


def _time_sources(settings: Settings) -> Sequence[str]:
    """Servers that `xinyu run` would ask anyhow."""
    sources = [endpoint.base_url for endpoint in model_endpoints(settings)][:1]
    sources += [settings.telegram_api_base_url] if settings.telegram_bot_token else []
    return sources + ([settings.wechat_api_base_url] if settings.wechat_app_id else [])


async def _offset(url: str) -> timedelta | None:
    """The server's clock minus ours, if it tells. A wrong clock makes certificates look invalid: not checked here,
    where nothing is sent and nothing but the time is taken."""
    loopback = is_loopback(urlsplit(url).hostname or "")
    try:
        async with (
            aiohttp.ClientSession(
                trust_env=not loopback, timeout=aiohttp.ClientTimeout(total=HTTP_SECONDS)
            ) as session,
            session.head(url, ssl=False, allow_redirects=False) as response,
        ):
            return parsedate_to_datetime(response.headers["Date"]).astimezone(UTC) - datetime.now(UTC)
    except (aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError):
        return None


# --- disk and permissions ---------------------------------------------------------------------


async def disk(around: Surroundings) -> Finding:
    folders = (around.settings.data_dir, around.settings.log_dir)
    return await asyncio.to_thread(_disk, folders)


def _disk(folders: Sequence[Path]) -> Finding:
    free, folder = min((shutil.disk_usage(nearest(folder)).free, folder) for folder in folders)
    found = f"{folder}: {free / MEGABYTE:,.0f} MB 可用 · free"
    if free < LOW_DISK:
        state = State.FAIL if free < NO_DISK else State.WARN
        return Finding("disk", state, found, f"腾出至少 {LOW_DISK // MEGABYTE} MB · make room")
    return Finding("disk", State.OK, found)


async def data_folder(around: Surroundings) -> Finding:
    return await asyncio.to_thread(_folder, "data_folder", around.settings.data_dir, True)


async def log_folder(around: Surroundings) -> Finding:
    return await asyncio.to_thread(_folder, "log_folder", around.settings.log_dir, False)


def _folder(name: str, folder: Path, private: bool) -> Finding:
    there = nearest(folder)
    if not there.is_dir():
        return Finding(
            name,
            State.FAIL,
            f"{there}: 不是文件夹 · not a folder",
            "移开它，或换个地方 · move it or set another",
        )
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        advice = f"以此用户 · as this user: `chown {os.geteuid()} {there}`"
        return Finding(name, State.FAIL, f"{there}: 不可写 · not writable", advice)
    if there != folder:
        return Finding(name, State.OK, f"{folder}: 首次运行时建立 · made at the first run")
    if private and there.stat().st_mode & stat.S_IRWXO:
        found = f"{folder}: 其他用户能看 · open to other users"
        return Finding(name, State.WARN, found, f"`chmod 700 {folder}`")
    return Finding(name, State.OK, f"{folder}: 可写 · writable")


def nearest(path: Path) -> Path:
    """The path itself, or the first folder above it that we see."""
    while not is_there(path) and path != path.parent:
        path = path.parent
    return path


def is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # below a folder that is closed to us
        return False


async def config_file(around: Surroundings) -> Finding:
    path = around.config_file
    try:
        mode = path.stat().st_mode
    except OSError:
        return Finding("config_file", State.SKIPPED, f"没有 {path} · no {path}")
    holds_secrets = any(_SECRET_NAME.search(name) for name in around.set_in_file)
    if holds_secrets and mode & stat.S_IRWXO:
        found = f"{path}: 有密钥，而其他用户能看 · holds secrets and is open to other users"
        return Finding("config_file", State.WARN, found, f"`chmod 600 {path}`")
    return Finding("config_file", State.OK, f"{path}: {stat.filemode(mode)}")


# --- port -------------------------------------------------------------------------------------


SAME_BOT_TWICE = (
    "同一个机器人还在别处运行，停掉一个 · the same bot runs somewhere else as well: stop one of them"
)


async def port(around: Surroundings) -> Finding:
    """Bound for a moment as the program would bind it, without listening."""
    host, number = around.settings.host, around.settings.port
    where = f"{host}:{number}"
    try:
        server = await asyncio.get_running_loop().create_server(
            asyncio.Protocol, host, number, start_serving=False
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return await _taken(where, host, number)
        return _not_bindable(where, error)
    server.close()
    return Finding("port", State.OK, f"{where} 空着 · free")


async def _taken(where: str, host: str, number: int) -> Finding:
    """By ourselves, running, or by a stranger."""
    host = EVERYWHERE.get(host, host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{number}/health"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HTTP_SECONDS)) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            health = await response.json()
        status, ready, parts = health["status"], health["ready"], health["parts"]
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
        advice = "停下那个程序，或换 PORT · stop that program or set another PORT"
        return Finding("port", State.FAIL, f"{where} 被别的程序占用 · taken by another program", advice)
    unwell = {str(name): str(part.get("detail")) for name, part in parts.items() if part.get("state") != "ok"}
    told = ", ".join(f"{name}: {detail}" for name, detail in sorted(unwell.items()))
    found = f"{where} 心语在运行 · XinYu is running: {status}{f' ({told})' if told else ''}"
    if unwell.get("telegram") == "another_poller_or_webhook":
        return Finding("port", State.WARN, found, SAME_BOT_TWICE)
    if ready:
        return Finding("port", State.OK, found)
    return Finding("port", State.WARN, found, "看它的日志 · look into its log")


def _not_bindable(where: str, error: OSError) -> Finding:
    if error.errno == errno.EACCES:
        advice = (
            "1024 以下要特权：换 PORT，前面放 nginx · below 1024 is privileged: another PORT, behind nginx"
        )
    else:
        advice = "HOST 用 127.0.0.1、0.0.0.0 或本机的地址 · set HOST to an address of this machine"
    reason = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return Finding("port", State.FAIL, f"{where} 不能监听 · cannot listen ({reason})", advice)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
