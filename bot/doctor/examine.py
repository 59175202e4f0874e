"""All checks, beside each other, each within its time; none can keep another from running."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from bot.compose import model_endpoints
from bot.doctor import discord, machine, services, stores, wechat
from bot.doctor.finding import Finding, State
from bot.doctor.surroundings import Surroundings, look_around
from core.model.client import ModelEndpoint

P = ParamSpec("P")
T = TypeVar("T")

CHECK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    """As in its findings."""
    look: Callable[[Surroundings], Awaitable[Finding | list[Finding]]]
    with_wrong_settings: bool = False
    """Also makes sense where some other setting is wrong."""


CHECKS = (  # the quick ones first: each line is shown once those before it are
    Check("config_file", machine.config_file, with_wrong_settings=True),
    Check("python", machine.python, with_wrong_settings=True),
    Check("open_files", machine.open_files, with_wrong_settings=True),
    Check("time_zone", machine.time_zone, with_wrong_settings=True),
    Check("disk", machine.disk, with_wrong_settings=True),
    Check("data_folder", machine.data_folder, with_wrong_settings=True),
    Check("log_folder", machine.log_folder, with_wrong_settings=True),
    Check("port", machine.port),
    Check("encryption_key", stores.encryption_key),
    Check("database", stores.database),
    Check("vector_store", stores.vector_store),
    Check("redis", stores.redis),
    Check("clock", machine.clock, with_wrong_settings=True),
    Check("telegram", services.telegram),
    Check("wechat", wechat.wechat),
    Check("discord", discord.discord),
)


async def examine(environ: Mapping[str, str], tell: Callable[[Finding], None]) -> list[Finding]:
    """Every finding, also told one by one, in order, as soon as the ones before it are there."""
    asyncio.get_running_loop().set_default_executor(_LooseThreads())
    around = look_around(environ)
    findings = settings(around)
    for finding in findings:
        tell(finding)
    checks = (*CHECKS, *_model_checks(around))
    for task in [asyncio.create_task(_bounded(check, around)) for check in checks]:
        for finding in await task:
            findings.append(finding)
            tell(finding)
    return findings


def settings(around: Surroundings) -> list[Finding]:
    """Each problem and each oddity of the settings on a line of its own."""
    file, found = around.config_file, around.settings
    there = machine.is_there(file)
    edit = f"改 {file} 或环境变量 · change it in {file} or the environment"
    lines = [(State.FAIL, problem, edit) for problem in around.problems]
    lines += [(State.WARN, warning, edit) for warning in around.warnings]
    if around.config_named and not there:
        lines.append((State.WARN, f"XINYU_CONFIG: 没有 {file} · no {file}", "`cp config.env.example …`"))
    if around.whole and found.debug and (found.public_url or not machine.is_loopback(found.host)):
        lines.append((State.WARN, "DEBUG=true，而外面能访问 · and open to the world", "DEBUG=false"))
    if not lines:
        source = str(file) if there else f"没有 {file}，用环境变量和默认值 · environment and defaults"
        lines.append((State.OK, source, ""))
    return [Finding("settings", *line) for line in lines]


def _model_checks(around: Surroundings) -> list[Check]:
    endpoints = model_endpoints(around.settings)
    if not endpoints:
        return [Check("model", services.no_model)]
    return [Check("model", partial(_model, endpoint)) for endpoint in endpoints]


async def _model(endpoint: ModelEndpoint, around: Surroundings) -> Finding:
    return await services.model(endpoint)


async def _bounded(check: Check, around: Surroundings) -> list[Finding]:
    if not (around.whole or check.with_wrong_settings):
        return [
            Finding(check.name, State.SKIPPED, "没有检查 · not checked", "先改好设置 · settings come first")
        ]
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found = await check.look(around)
    except TimeoutError:
        late = f"{CHECK_SECONDS:.0f} 秒内没有结果 · no result within {CHECK_SECONDS:.0f} s"
        return [Finding(check.name, State.FAIL, late, "看磁盘、网络和 DNS · look at disk, network and DNS")]
    except Exception as error:  # noqa: BLE001 - the check's top: the others must have their say
        broke = f"检查本身出错 · the check itself failed ({type(error).__name__})"
        return [Finding(check.name, State.FAIL, broke, "请报告 · please report it")]
    return found if isinstance(found, list) else [found]


class _LooseThreads(ThreadPoolExecutor):
    """A thread a job, which nobody waits for: a disk or a resolver that hangs must not hold up the exit."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - belongs to who waits
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        return future
