"""The OpenAPI document against the program itself: schemathesis looks for a 5xx and for undocumented answers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.model_server import KEY, MODEL, FakeModelServer
from tests.fakes.program import Program

EXAMPLES = 60
"""For each operation and phase."""
REFUSED_FOR_MORE_THAN_FORM = "positive_data_acceptance"
"""What fits the schema may be refused: a blank message, a key that was used with another message."""


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    async with FakeModelServer() as model:
        settings = {"LLM_API_KEY": KEY, "LLM_BASE_URL": model.base_url, "DEFAULT_MODEL": MODEL}
        program = Program(tmp_path, settings)
        await program.start()
        yield program
        await program.stop()


async def test_nothing_but_what_the_document_says(program: Program, tmp_path: Path) -> None:
    schemathesis = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", f"{program.url}/openapi.json"),
        *("--checks", "all", "--exclude-checks", REFUSED_FOR_MORE_THAN_FORM),
        *("--max-examples", str(EXAMPLES), "--request-timeout", "20"),
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(110):
        output, _ = await schemathesis.communicate()
    assert schemathesis.returncode == 0, output.decode()
