"""The rules of the house that no other tool checks."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from bot.cli.main import COMMANDS, Command, main

ROOT = Path(__file__).parents[2]
FLOORS = {"bot", "adapters", "core", "storage", "deploy", "tests", "docs"}
PACKAGES = ("bot", "adapters", "core", "storage", "tests")
BANNED_NAMES = re.compile(r"^(utils?|helpers?|common_utils|misc|managers?|base)$")
COMMAND_NAMES = [command.name for command in COMMANDS]


def committed() -> list[Path]:
    """What git knows or would add: nothing that it ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).exists()]


FILES = committed()
MODULES = [file for file in FILES if file.suffix == ".py" and file.parts[0] in PACKAGES]


def test_the_top_floors_are_those_of_the_design() -> None:
    folders = {file.parts[0] for file in FILES if len(file.parts) > 1}
    assert {folder for folder in folders if not folder.startswith(".")} == FLOORS


def test_no_room_is_called_after_nothing() -> None:
    assert [str(file) for file in FILES if BANNED_NAMES.match(file.stem)] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = []
    for module in MODULES:
        tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
        annotated = any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body[:2]
        )
        has_code = len(tree.body) > (ast.get_docstring(tree) is not None)
        if has_code and not (ast.get_docstring(tree) and annotated):
            silent.append(str(module))
    assert silent == []


def test_core_reads_no_environment() -> None:
    for module in (module for module in MODULES if module.parts[0] == "core"):
        text = (ROOT / module).read_text(encoding="utf-8")
        assert not re.search(r"os\.environ|getenv", text), module


def test_tests_use_no_mocks_and_wait_for_events() -> None:
    for module in (module for module in MODULES if module.name.startswith("test_")):
        for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    imported = {name.name for name in names}
                case ast.ImportFrom(module=source, names=names):
                    imported = {f"{source}.{name.name}" for name in names} | {source or ""}
                case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="sleep")):
                    imported = {"time.sleep"}
                case _:
                    continue
            assert not imported & {"time.sleep", "unittest.mock", "mock"}, module


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=COMMAND_NAMES)
def test_every_command_has_its_module(command: Command) -> None:
    module = importlib.import_module(command.module)
    parser = argparse.ArgumentParser()
    module.define(parser)
    assert callable(parser.get_default("act"))


@pytest.mark.parametrize("name", COMMAND_NAMES)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    assert f"xinyu {name}" in capsys.readouterr().out


def test_every_command_module_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    defining = {
        file.stem
        for file in FILES
        if file.parts[:2] == ("bot", "cli") and "def define(" in (ROOT / file).read_text(encoding="utf-8")
    }
    assert defining == {command.module.rpartition(".")[2] for command in COMMANDS}
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(re.search(rf"^ +{name}\b", shown, re.MULTILINE) for name in COMMAND_NAMES)


# --- the locks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_locks_pin_everything_by_hash_and_name_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    requirements = [
        block
        for block in re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
        if block
    ]
    assert len(requirements) > 50
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[^\s;]+", requirement), requirement[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement[:80]
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host", text)


def test_the_dev_lock_has_all_of_the_other() -> None:
    def pins(lock: str) -> set[str]:
        return set(
            re.findall(r"^[A-Za-z0-9._-]+(?:\[[a-z,]+\])?==\S+", (ROOT / lock).read_text(), re.MULTILINE)
        )

    assert pins("requirements.txt") <= pins("requirements-dev.txt")


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "requirements.txt").read_text()
    locked = {
        name.lower().replace("_", "-")
        for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[\S*\])?==", lock, re.MULTILINE)
    }
    wanted = {
        re.split(r"[\[<>=]", dependency)[0].lower().replace(".", "-")
        for dependency in project["dependencies"]
    }
    assert wanted <= locked
