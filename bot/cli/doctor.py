"""`xinyu doctor`: one line a check; 0 all well or only warnings, 1 something fails, 2 settings are wrong."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import sys

from bot.cli.common import print_json
from bot.doctor.examine import examine
from bot.doctor.finding import Finding, State
from bot.logs import silent

FAILED, MISCONFIGURED = 1, 2
LABELS = {
    "settings": "设置",
    "config_file": "设置文件",
    "model": "模型",
    "encryption_key": "加密密钥",
    "database": "数据库",
    "vector_store": "向量库",
    "redis": "Redis",
    "telegram": "Telegram",
    "wechat": "微信公众号",
    "discord": "Discord",
    "clock": "时钟",
    "time_zone": "时区",
    "disk": "磁盘",
    "data_folder": "数据文件夹",
    "log_folder": "日志文件夹",
    "port": "端口",
    "python": "Python",
    "open_files": "打开文件数",
}
_MARKS = {State.OK: "✓", State.WARN: "!", State.FAIL: "✗", State.SKIPPED: "-"}
_COLOURS = {State.OK: 32, State.WARN: 33, State.FAIL: 31, State.SKIPPED: 90}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="给程序读 · for programs")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace) -> int:
    silent()
    marks = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def tell(finding: Finding) -> None:
        if not arguments.json:
            print(_line(finding, marks=marks), flush=True)

    findings = asyncio.run(examine(os.environ, tell))
    if arguments.json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    failed = {finding.name for finding in findings if finding.state is State.FAIL}
    return MISCONFIGURED if "settings" in failed else FAILED if failed else 0


def _line(finding: Finding, *, marks: bool) -> str:
    state = finding.state
    mark = f"\x1b[{_COLOURS[state]}m{_MARKS[state]}\x1b[0m" if marks else f"{state.value:<7}"
    label = LABELS[finding.name]
    if label.lower() != finding.name:
        label += " " + finding.name.replace("_", " ")
    advice = f" → {finding.advice}" if finding.advice else ""
    return f"{mark} {label}: {_printable(finding.found + advice)}"


def _printable(text: str) -> str:
    """Nothing of what others answered steers the terminal or breaks the line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
