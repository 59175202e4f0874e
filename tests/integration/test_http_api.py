"""The running program's HTTP API: chat, history, health, metrics, docs; who may use it; what bad input does."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import re
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.model_server import KEY, MODEL, FakeModelServer
from tests.fakes.program import Program

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRIEND = "https://friend.example"
FOREIGN = "https://foreign.example"
PATIENCE = 20.0
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
REFUSALS = {400, 413, 415, 422}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer() as server:
        yield server


def settings_for(model: FakeModelServer) -> dict[str, str]:
    return {"LLM_API_KEY": KEY, "LLM_BASE_URL": model.base_url, "DEFAULT_MODEL": MODEL}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(model: FakeModelServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    """As an operator starts it, for this machine alone."""
    more = {"CORS_ORIGINS": FRIEND, "ALLOWED_HOSTS": "xinyu.example"}
    program = Program(Path(tmp_path_factory.mktemp("api")), {**settings_for(model), **more})
    await program.start()
    yield program
    await program.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(model: FakeModelServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    """Open to the network, impatient and with a low rate limit."""
    more = {"HOST": "0.0.0.0", "TIMEOUT": "1", "RATE_LIMIT_PER_MINUTE": "4"}
    program = Program(Path(tmp_path_factory.mktemp("strict")), {**settings_for(model), **more})
    await program.start()
    yield program
    await program.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def client(program: Program) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(program.url) as session:
        yield session


@pytest_asyncio.fixture(loop_scope="module")
async def strict_client(strict: Program) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(strict.url) as session:
        yield session


def said(message: str, user_id: str) -> dict[str, str]:
    return {"message": message, "user_id": user_id}


async def answer_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    assert response.status == 200, await response.text()
    body: dict[str, Any] = await response.json()
    return body


async def problem_of(response: aiohttp.ClientResponse, *statuses: int) -> dict[str, Any]:
    """The problem document of a refused request, checked against RFC 9457."""
    assert response.status in statuses, f"{response.status}: {await response.text()}"
    assert response.content_type == "application/problem+json"
    document: dict[str, Any] = await response.json(content_type=None)
    assert document["status"] == response.status
    assert document["type"] and document["title"] and document["detail"]
    assert document["instance"] == f"urn:request:{response.headers['X-Request-ID']}"
    return document


async def keys(program: Program, *arguments: str) -> Any:
    """`xinyu keys …` in the program's folder; its JSON if it prints any."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bot",
        "keys",
        *arguments,
        cwd=program.folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out) if "--json" in arguments else out.decode()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def rows(program: Program, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{program.folder}/data/xinyu.db?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()


def assert_rows_are_whole(program: Program) -> None:
    """No row is there without those that are written with it."""
    for query in (
        "select rowid from pragma_foreign_key_check",
        "select id from users where id not in (select user_id from identities)",
        "select id from users where id not in (select user_id from inbox)",
        "select id from conversations where id not in (select conversation_id from inbox)",
        "select id from inbox where body is null and id not in (select id from chat_messages)",
        "select id from inbox where state = 'done' and turn_id not in "
        "(select turn_id from chat_messages where role = 'assistant')",
        "select turn_id from chat_messages group by turn_id having sum(role = 'assistant') != 1",
    ):
        assert rows(program, query) == [], query
    assert rows(program, "pragma integrity_check") == [("ok",)]


def people(program: Program) -> set[str]:
    """Everybody there is, by the id that a client without a key gave them."""
    return {
        bytes(row[0]).decode().removeprefix("local/")
        for row in rows(program, "select platform_user_id from identities")
    }


# --- health, info, metrics, docs ------------------------------------------------------------------


async def test_health_tells_each_part(client: aiohttp.ClientSession) -> None:
    async with client.get("/health") as response:
        health = await answer_of(response)
    assert (health["status"], health["live"], health["ready"]) == ("ok", True, True)
    assert {name: part["state"] for name, part in health["parts"].items()} == {
        "database": "ok",
        "model": "ok",
    }
    async with client.get("/health", params={"live": "1"}) as response:
        assert (await answer_of(response))["parts"] == {}
    async with client.head("/health") as response:
        assert response.status == 200 and await response.read() == b""


async def test_health_names_the_part_that_is_away(tmp_path: Path) -> None:
    program = Program(tmp_path, {})
    await program.start()
    try:
        async with aiohttp.ClientSession(program.url) as client:
            async with client.get("/health") as response:
                health = await answer_of(response)
            async with client.post("/chat", json=said("你好", "a")) as response:
                reply = await answer_of(response)
    finally:
        await program.stop()
    assert (health["status"], health["ready"]) == ("degraded", True)
    assert health["parts"]["model"] == {"state": "down", "detail": "not_configured"}
    assert reply["source"] == "listener" and reply["deferred"] is True and reply["reply"]


async def test_system_info(client: aiohttp.ClientSession) -> None:
    async with client.get("/system/info") as response:
        info = await answer_of(response)
    assert info["models"] == [MODEL] and info["database"] == "sqlite"
    assert info["version"] and info["uptime_seconds"] > 0 and "web" in info["platforms"]


async def test_metrics_can_be_read_by_prometheus(client: aiohttp.ClientSession) -> None:
    async def measured() -> dict[str, float]:
        async with client.get("/metrics") as response:
            assert response.status == 200 and response.content_type == "text/plain"
            text = await response.text()
        return {
            f"{sample.name}{sorted(sample.labels.items())}": sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    accepted = "xinyu_messages_accepted_total[('platform', 'web')]"
    before = await measured()
    async with client.post("/chat", json=said("数一数", "counted-person")) as response:
        await answer_of(response)
    async with client.get("/nothing/counted-person") as response:
        await problem_of(response, 404)
    after = await measured()
    assert after[accepted] == before.get(accepted, 0) + 1
    served = "xinyu_http_request_seconds_count[('method', '{}'), ('route', '{}'), ('status', '{}')]"
    assert after[served.format("POST", "/chat", 200)] > before.get(served.format("POST", "/chat", 200), 0)
    assert after[served.format("other", "none", 404)] > 0
    assert not any("counted" in name for name in after), "labels name no people and no made-up paths"


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action") and value]


async def test_docs_load_from_here_alone(client: aiohttp.ClientSession) -> None:
    async with client.get("/docs") as response:
        assert response.status == 200 and response.content_type == "text/html"
        policy = dict(
            part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";")
        )
        page = _Loads()
        page.feed(await response.text())
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert not any("http" in sources or "*" in sources for sources in policy.values())
    types = {}
    for address in page.addresses:
        assert re.fullmatch(r"/[^/].*", address), f"{address} is elsewhere"
        async with client.get(address) as response:
            assert response.status == 200 and len(await response.read()) > 50
            types[address] = response.content_type
    assert sorted(types.values()) == ["text/css", "text/javascript", "text/javascript"]
    async with client.get("/docs/start.js") as response:
        assert '"/openapi.json"' in await response.text()
    async with client.get("/docs/oauth2-redirect.html") as response:
        await problem_of(response, 404)


# --- chat -----------------------------------------------------------------------------------------


async def test_chat_answers_with_ids(client: aiohttp.ClientSession) -> None:
    replies = []
    for message, user_id in (("第一句", "ids"), ("第二句", "ids"), ("第三句", "other")):
        async with client.post("/chat", json=said(message, user_id)) as response:
            reply = await answer_of(response)
            assert reply["reply"] == f"回声:{message}"
            assert (reply["source"], reply["deferred"], reply["emotion"]) == ("model", False, None)
            assert reply["message_id"].isdigit() and reply["conversation_id"].isdigit()
            replies.append(reply)
    assert len({reply["message_id"] for reply in replies}) == 3
    first, second, third = (reply["conversation_id"] for reply in replies)
    assert first == second != third


async def test_history_shows_what_was_said(client: aiohttp.ClientSession) -> None:
    ids = []
    for message in ("一", "二", "三"):
        async with client.post("/chat", json=said(message, "historian")) as response:
            ids.append((await answer_of(response))["message_id"])
    query = {"user_id": "historian"}
    async with client.get("/chat/history", params=query) as response:
        history = await answer_of(response)
    told = [(message["role"], message["source"], message["text"]) for message in history["messages"]]
    assert told == [
        pair
        for message in ("一", "二", "三")
        for pair in (("user", "person", message), ("assistant", "model", f"回声:{message}"))
    ]
    assert [m["message_id"] for m in history["messages"] if m["role"] == "assistant"] == ids
    assert history["more"] is False
    async with client.get("/chat/history", params={**query, "limit": "2"}) as response:
        newest = await answer_of(response)
    assert newest["messages"] == history["messages"][-2:] and newest["more"] is True
    older = {**query, "limit": "3", "before": newest["messages"][0]["created_at"]}
    async with client.get("/chat/history", params=older) as response:
        page = await answer_of(response)
    overlap = [m["message_id"] for m in page["messages"]]
    assert newest["messages"][0]["message_id"] in overlap, "none is left out between two pages"
    assert newest["messages"][1]["message_id"] not in overlap
    async with client.get("/chat/history", params={"user_id": "nobody"}) as response:
        assert await answer_of(response) == {"messages": [], "more": False}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "user_id=",
        "user_id=%00",
        "user_id=%ED%A0%80%0A",
        "user_id=" + "x" * 101,
        "user_id=a&limit=0",
        "user_id=a&limit=101",
        "user_id=a&limit=-1",
        "user_id=a&limit=1e1",
        "user_id=a&limit=%D9%A3",
        "user_id=a&before=yesterday",
        "user_id=a&before=2026-01-01",
        "user_id=a&before=2026-01-01T00:00:00",
        "user_id=a&before=9999-12-31T23:59:59-14:00",
    ],
)
async def test_history_refuses_what_it_does_not_know(client: aiohttp.ClientSession, query: str) -> None:
    async with client.get(f"/chat/history?{query}") as response:
        assert (await problem_of(response, 422))["errors"]


async def test_the_same_key_at_once_is_one_turn(
    client: aiohttp.ClientSession, model: FakeModelServer, program: Program
) -> None:
    asked = len(model.requests)
    again = {"Idempotency-Key": "only-once"}

    async def ask() -> dict[str, Any]:
        async with client.post("/chat", json=said("只要一次", "idem"), headers=again) as response:
            assert response.headers["Idempotency-Key"] == "only-once"
            return await answer_of(response)

    model.gate.clear()
    try:
        asking = [asyncio.create_task(ask()) for _ in range(5)]
        async with asyncio.timeout(PATIENCE):
            await model.wait_for_requests(asked + 1)
    finally:
        model.gate.set()
    replies = await asyncio.gather(*asking)
    replies.append(await ask())
    assert all(reply == replies[0] for reply in replies)
    assert len(model.requests) == asked + 1
    async with client.get("/chat/history", params={"user_id": "idem"}) as response:
        assert len((await answer_of(response))["messages"]) == 2


async def test_a_key_belongs_to_one_message_of_one_person(client: aiohttp.ClientSession) -> None:
    again = {"Idempotency-Key": "mine"}
    async with client.post("/chat", json=said("原来的话", "keeper"), headers=again) as response:
        first = await answer_of(response)
    for path in ("/chat", "/chat/stream"):
        async with client.post(path, json=said("别的话", "keeper"), headers=again) as response:
            problem = await problem_of(response, 422)
            assert "Idempotency-Key" in problem["detail"] and "原来的话" not in str(problem)
    async with client.post("/chat", json=said("别的话", "somebody else"), headers=again) as response:
        other = await answer_of(response)
    assert other["reply"] == "回声:别的话" and other["conversation_id"] != first["conversation_id"]


async def test_without_a_key_one_is_given(client: aiohttp.ClientSession) -> None:
    async with client.post("/chat", json=said("给我一个", "given")) as response:
        given, first = response.headers["Idempotency-Key"], await answer_of(response)
    again = {"Idempotency-Key": given}
    async with client.post("/chat", json=said("给我一个", "given"), headers=again) as response:
        assert await answer_of(response) == first


async def test_too_late_then_the_same_key_gets_the_answer(
    strict_client: aiohttp.ClientSession, model: FakeModelServer
) -> None:
    asked = len(model.requests)
    model.gate.clear()
    try:
        async with strict_client.post("/chat", json=said("慢慢来", "late")) as response:
            await problem_of(response, 504)
            again = {"Idempotency-Key": response.headers["Idempotency-Key"]}
    finally:
        model.gate.set()
    async with strict_client.post("/chat", json=said("慢慢来", "late"), headers=again) as response:
        assert (await answer_of(response))["reply"] == "回声:慢慢来"
    assert len(model.requests) == asked + 1


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"hi"', 422),
        (b"{}", 422),
        (b'{"message": "hi"}', 422),
        (b'{"message": 1, "user_id": "bad"}', 422),
        (b'{"message": ["hi"], "user_id": "bad"}', 422),
        (b'{"message": "hi", "user_id": 7}', 422),
        (b'{"message": "hi", "user_id": null}', 422),
        (b'{"message": "hi", "user_id": ""}', 422),
        (b'{"message": "hi", "user_id": " bad"}', 422),
        (b'{"message": "hi", "user_id": "bad\\u202e"}', 422),
        (b'{"message": "hi", "user_id": "bad\\ud800"}', 422),
        (b'{"message": "hi", "user_id": "bad", "\\ud800": 1}', 422),
        (b'{"message": "hi", "user_id": "' + b"b" * 101 + b'"}', 422),
        (b'{"message": "", "user_id": "bad"}', 422),
        (b'{"message": " \\n\\t ", "user_id": "bad"}', 422),
        (b'{"message": "\\u0000\\u0007\\u001b", "user_id": "bad"}', 422),
        (b'{"message": "\\u202e\\u2066", "user_id": "bad"}', 422),
        (b'{"message": "\\ud83d", "user_id": "bad"}', 422),
        (b'{"message": "' + b"x" * 8001 + b'", "user_id": "bad"}', 422),
        (b'{"message": "a' + "\u0301".encode() * 10_000 + b'", "user_id": "bad"}', 422),
        (b'{"message": "hi", "user_id": "bad", "extra": 1}', 422),
        (b'{"message": "hi\xff", "user_id": "bad"}', 400),
        (b'\xef\xbb\xbf{"message": "hi", "user_id": "bad"}', 400),
        ('{"message": "hi", "user_id": "bad"}'.encode("utf-16"), 400),
        (b'{"message": NaN, "user_id": "bad"}', 400),
        (b'{"message": ' + b"9" * 5000 + b', "user_id": "bad"}', 400),
        (b"[" * 30_000, 400),
        (b'{"a":' * 10_000, 400),
        (b'{"message": "' + b"x" * 1_000_000 + b'", "user_id": "bad"}', 413),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_bad_body_is_refused_with_the_reason(
    client: aiohttp.ClientSession, program: Program, path: str, body: bytes, status: int
) -> None:
    before = people(program)
    async with client.post(path, data=body, headers={"Content-Type": "application/json"}) as response:
        problem = await problem_of(response, status)
        if status == 422:
            assert problem["errors"], "which field, and why"
    assert people(program) == before
    assert_rows_are_whole(program)


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("a" + "\u0301" * 7000 + "b", "\u00e1" + "\u0301" * 8 + "b"),
        ("你\u202e好\u2069", "你好"),
        ("好\x00的\x1b[2J", "好的[2J"),
        ("x" * 8000, "x" * 8000),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("'; drop table users; --", "'; drop table users; --"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
    ],
    ids=["marks", "direction", "controls", "longest", "markup", "sql", "family"],
)
async def test_strange_text_is_answered_and_kept_clean(
    client: aiohttp.ClientSession, program: Program, message: str, kept: str
) -> None:
    user_id = f"strange-{hashlib.sha256(message.encode()).hexdigest()[:8]}"
    async with client.post("/chat", json=said(message, user_id)) as response:
        await answer_of(response)
    async with client.get("/chat/history", params={"user_id": user_id}) as response:
        assert (await answer_of(response))["messages"][0]["text"] == kept
    assert_rows_are_whole(program)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, b'{"message": "hi", "user_id": "bad"}', 415),
        ({"Content-Type": "nonsense"}, b'{"message": "hi", "user_id": "bad"}', 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"message=hi&user_id=bad", 415),
        ({"Idempotency-Key": "with blank"}, b'{"message": "hi", "user_id": "bad"}', 422),
        ({"Idempotency-Key": "k" * 256}, b'{"message": "hi", "user_id": "bad"}', 422),
        ({"Idempotency-Key": "é"}, b'{"message": "hi", "user_id": "bad"}', 422),
        ({"Idempotency-Key": ""}, b'{"message": "hi", "user_id": "bad"}', 422),
        ({"Content-Encoding": "gzip"}, b'{"message": "hi", "user_id": "bad"}', 400),
        ({"Content-Encoding": "deflate"}, b'{"message": "hi", "user_id": "bad"}', 400),
        ({"Content-Encoding": "gzip"}, gzip.compress(b'{"message": "' + b"x" * 3_000_000), 413),
    ],
)
async def test_bad_headers_are_refused_with_the_reason(
    client: aiohttp.ClientSession, program: Program, headers: dict[str, str], body: bytes, status: int
) -> None:
    all_headers = {"Content-Type": "application/json", **headers}
    async with client.post("/chat", data=body, headers=all_headers, compress=False) as response:
        await problem_of(response, status)
    assert "bad" not in people(program)


async def test_a_long_body_is_refused_however_it_comes(client: aiohttp.ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 1000

    async with client.post("/chat", data=endless(), headers={"Content-Type": "application/json"}) as response:
        await problem_of(response, 413)


async def test_who_hangs_up_in_the_middle_is_no_error(
    program: Program, client: aiohttp.ClientSession
) -> None:
    head = "POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", program.port)
    writer.write(head.encode() + b'{"message": "half a ')
    await writer.drain()
    writer.transport.abort()
    async with asyncio.timeout(PATIENCE):
        while (lines := access_lines(program))[-1]["status"] != 499:
            await asyncio.sleep(0.02)  # a process of another program has no event to wait on
    assert lines[-1]["route"] == "/chat"
    assert lines[-1]["request_id"] not in (program.folder / "log" / "error.log").read_text()
    assert_rows_are_whole(program)


def access_lines(program: Program) -> list[dict[str, Any]]:
    text = (program.folder / "log" / "access.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=20) | st.sampled_from(["message", "user_id"]), inner, max_size=4)
    ),
    max_leaves=12,
)
ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=120)


async def assert_refused_or_answered(
    client: aiohttp.ClientSession, body: bytes, headers: Mapping[str, str] = {}
) -> None:
    all_headers = {"Content-Type": "application/json", **headers}
    async with client.post("/chat", data=body, headers=all_headers) as response:
        if response.status == 200:
            assert (await response.json())["reply"]
        else:
            await problem_of(response, *REFUSALS)


@FEW
@given(body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
async def test_any_body_is_refused_or_answered(client: aiohttp.ClientSession, body: bytes) -> None:
    await assert_refused_or_answered(client, body)


@FEW
@given(message=ANY_TEXT, user_id=ANY_TEXT)
async def test_any_words_of_anybody_are_refused_or_answered(
    client: aiohttp.ClientSession, message: str, user_id: str
) -> None:
    await assert_refused_or_answered(client, json.dumps(said(message, user_id)).encode())


@FEW
@given(user_id=st.text(st.characters(categories=["L", "M", "N", "P", "S"]), min_size=1, max_size=100))
async def test_any_printable_user_id_is_a_person_of_their_own(
    client: aiohttp.ClientSession, program: Program, user_id: str
) -> None:
    words = f"我是{user_id}"
    async with client.post("/chat", json=said(words, user_id)) as response:
        await answer_of(response)
    assert user_id in people(program)
    async with client.get("/chat/history", params={"user_id": user_id}) as response:
        texts = {message["text"] for message in (await answer_of(response))["messages"]}
    # Other tests' people may be drawn, too ("ids"): only these words tell who is who.
    assert {text for text in texts if "我是" in text} == {words, f"回声:{words}"}


@FEW
@given(
    name=st.sampled_from(
        ["Host", "Origin", "Authorization", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"]
    ),
    value=st.binary(max_size=60).map(lambda value: bytes(b for b in value if b >= 32 and b != 127))
    | st.sampled_from([b"[", b"[::1", b"http://[", "a℀b".encode(), b"Bearer \xff", b"localhost:x", b"null"]),
)
async def test_any_header_is_refused_or_answered(program: Program, name: str, value: bytes) -> None:
    fields = {"Host": b"localhost", "Content-Type": b"application/json", "Connection": b"close"}
    fields[name] = value
    head = b"".join(key.encode() + b": " + field + b"\r\n" for key, field in fields.items())
    body = json.dumps(said("hi", "headers")).encode()
    status, _ = await exchange(
        program, b"POST /chat HTTP/1.1\r\n" + head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    )
    assert status in {200, 401, 403, *REFUSALS}


async def exchange(program: Program, request: bytes) -> tuple[int, bytes]:
    """Send these very bytes; the answer's status and all of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", program.port)
    writer.write(request)
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nBad\x00Name: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    ],
    ids=["tls", "no-host", "name", "long", "chunk", "lengths"],
)
async def test_what_is_no_http_is_a_400(
    program: Program, client: aiohttp.ClientSession, request_: bytes
) -> None:
    status, answer = await exchange(program, request_)
    assert status == 400 and b"Traceback" not in answer
    async with client.get("/health") as response:
        await answer_of(response)


async def test_after_all_that_every_row_is_whole(program: Program, client: aiohttp.ClientSession) -> None:
    async with client.post("/chat", json=said("还在吗", "still")) as response:
        assert (await answer_of(response))["reply"] == "回声:还在吗"
    assert_rows_are_whole(program)
    assert rows(program, "select id from inbox where state != 'done'") == []
    assert not [line for line in access_lines(program) if line["status"] >= 500]


# --- problems, request ids, headers ---------------------------------------------------------------

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/health", 200),
        ("GET", "/docs", 200),
        ("GET", "/docs/swagger-ui.css", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/metrics", 200),
        ("GET", "/chat/history?user_id=a", 200),
        ("GET", "/nothing-here", 404),
        ("GET", "/static/../../etc/passwd", 404),
        ("GET", "/docs/%2e%2e%2fsecret", 404),
        ("GET", "/chat", 405),
        ("PURGE", "/chat", 405),
        ("POST", "/health", 405),
        ("OPTIONS", "/chat", 405),
        ("POST", "/chat", 415),
        ("GET", "/chat/history", 422),
    ],
)
async def test_every_answer_is_guarded_and_every_error_a_problem(
    client: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    async with client.request(method, path) as response:
        if status >= 400:
            await problem_of(response, status)
        assert response.status == status
        assert {name: response.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "aiohttp" not in response.headers.get("Server", "")
        assert response.headers.getall("X-Request-ID") == [response.headers["X-Request-ID"]]
        assert ("Allow" in response.headers) == (status == 405)
        if path.startswith(("/chat", "/metrics", "/health")):
            assert response.headers["Cache-Control"] == "no-store"


async def test_a_stream_is_guarded_too(client: aiohttp.ClientSession) -> None:
    async with client.post("/chat/stream", json=said("你好", "guarded")) as response:
        assert {name: response.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert response.headers["X-Request-ID"]


async def test_a_request_id_is_echoed_where_it_is_one(client: aiohttp.ClientSession) -> None:
    async with client.get("/health", headers={"X-Request-ID": "trace-1.A_b"}) as response:
        assert response.headers["X-Request-ID"] == "trace-1.A_b"
    for odd in ("", "with blank", "x" * 65, "<b>", "é"):
        async with client.get("/health", headers={"X-Request-ID": odd}) as response:
            assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-ID"])


# --- who may use it -------------------------------------------------------------------------------


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it asks which way out there would be
        except OSError:
            pytest.skip("this machine has no network")
        address: str = probe.getsockname()[0]
    return address


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/chat"),
        ("POST", "/chat/stream"),
        ("GET", "/chat/history"),
        ("GET", "/"),
        ("GET", "/metrics"),
    ],
)
@pytest.mark.parametrize(
    "claim",
    [
        {},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Host": "localhost"},
        {"Authorization": ""},
    ],
    ids=str,
)
async def test_from_elsewhere_a_key_is_needed(
    strict: Program, method: str, path: str, claim: dict[str, str]
) -> None:
    async with aiohttp.ClientSession(f"http://{own_address()}:{strict.port}") as client:
        body = said("hi", "elsewhere") if method == "POST" else None
        async with client.request(method, path, json=body, headers=claim) as response:
            await problem_of(response, 401)
            assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_from_elsewhere_health_is_open_and_a_key_opens_the_rest(strict: Program) -> None:
    key = (await keys(strict, "create", "elsewhere", "--json"))["key"]
    async with aiohttp.ClientSession(f"http://{own_address()}:{strict.port}") as client:
        async with client.get("/health") as response:
            await answer_of(response)
        async with client.post("/chat", json=said("我在外面", "far"), headers=bearer(key)) as response:
            assert (await answer_of(response))["reply"] == "回声:我在外面"


@pytest.mark.parametrize(
    "name",
    [
        "Forwarded",
        "Via",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Real-IP",
        "CF-Connecting-IP",
    ],
)
async def test_through_a_proxy_is_not_from_here(client: aiohttp.ClientSession, name: str) -> None:
    async with client.post("/chat", json=said("hi", "proxied"), headers={name: "127.0.0.1"}) as response:
        await problem_of(response, 401)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("[::1]:8000", 200),
        ("xinyu.example", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("evil.example:8000", 403),
        ("", 403),
        ("[", 403),
        ("[::1", 403),
    ],
)
async def test_a_foreign_name_for_this_machine_is_refused(
    client: aiohttp.ClientSession, host: str, status: int
) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    async with client.post("/chat", json=said("hi", "rebound"), headers=headers) as response:
        if status == 403:
            await problem_of(response, 403)
        assert response.status == status
    async with client.get("/chat/history?user_id=rebound", headers={"Host": host}) as response:
        assert response.status == status


@pytest.mark.parametrize(
    "origin",
    [
        FOREIGN,
        "null",
        "http://localhost",
        "http://friend.example",
        f"{FRIEND}.evil.example",
        "file://",
        "http://[",
    ],
)
async def test_a_foreign_origin_is_refused(client: aiohttp.ClientSession, origin: str) -> None:
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for request in (
        client.post("/chat", json=said("hi", "crossed"), headers={"Origin": origin}),
        client.options("/chat", headers=asks),
    ):
        async with request as response:
            await problem_of(response, 403)
            assert "Access-Control-Allow-Origin" not in response.headers
    async with client.get("/chat/history?user_id=crossed", headers={"Origin": origin}) as response:
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_listed_origin_is_let_in(client: aiohttp.ClientSession) -> None:
    asks = {
        "Origin": FRIEND,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, idempotency-key, authorization, last-event-id",
    }
    async with client.options("/chat", headers=asks) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == FRIEND
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        allowed = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert set(asks["Access-Control-Request-Headers"].split(", ")) <= set(allowed)
    for path, status in (("/chat", 200), ("/chat/stream", 200), ("/nothing", 404)):
        async with client.post(path, json=said("hi", "friend"), headers={"Origin": FRIEND}) as response:
            assert response.status == status
            assert response.headers["Access-Control-Allow-Origin"] == FRIEND
            assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
            assert "Access-Control-Allow-Credentials" not in response.headers
            assert "Origin" in response.headers["Vary"]


async def test_the_page_may_use_its_own_api(client: aiohttp.ClientSession, program: Program) -> None:
    async with client.post("/chat", json=said("hi", "page"), headers={"Origin": program.url}) as response:
        await answer_of(response)


async def test_scopes_are_kept(program: Program, client: aiohttp.ClientSession) -> None:
    made = {
        scope: (await keys(program, "create", scope, "--scope", scope, "--json"))["key"]
        for scope in ("chat", "metrics", "admin")
    }
    for scope, chat, metrics in (("chat", 200, 403), ("metrics", 403, 200), ("admin", 200, 200)):
        headers = bearer(made[scope])
        async with client.post("/chat", json=said("hi", "scoped"), headers=headers) as response:
            assert response.status == chat
        async with client.get("/chat/history?user_id=scoped", headers=headers) as response:
            assert response.status == chat
        async with client.get("/metrics", headers=headers) as response:
            assert response.status == metrics


async def test_one_keys_holder_does_not_reach_anothers_people(
    program: Program, client: aiohttp.ClientSession
) -> None:
    mine, theirs = [(await keys(program, "create", name, "--json"))["key"] for name in ("mine", "theirs")]
    again = {"Idempotency-Key": "the-same"}
    async with client.post("/chat", json=said("秘密", "alice"), headers=bearer(mine) | again) as response:
        first = await answer_of(response)
    for headers in (bearer(theirs), {}):
        async with client.get("/chat/history?user_id=alice", headers=headers) as response:
            assert (await answer_of(response))["messages"] == []
        async with client.post("/chat", json=said("秘密", "alice"), headers=headers | again) as response:
            assert (await answer_of(response))["message_id"] != first["message_id"]


@pytest.mark.parametrize("authorization", ["Bearer nonsense", "Bearer ", "Basic eHk6eHk=", "Bearer", "\xff"])
async def test_a_wrong_key_is_refused_even_from_here(
    client: aiohttp.ClientSession, authorization: str
) -> None:
    headers = {"Authorization": authorization}
    async with client.post("/chat", json=said("hi", "wrong"), headers=headers) as response:
        await problem_of(response, 401)
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_key_is_kept_as_a_hash_and_can_be_revoked(
    program: Program, client: aiohttp.ClientSession
) -> None:
    made = await keys(program, "create", "短命", "--json")
    unused = await keys(program, "create", "unused", "--json")
    async with client.post("/chat", json=said("hi", "kept"), headers=bearer(made["key"])) as response:
        await answer_of(response)
    stored = b"".join(path.read_bytes() for path in (program.folder / "data").glob("xinyu.db*"))
    assert hashlib.sha256(made["key"].encode()).digest() in stored
    assert made["key"].encode() not in stored
    assert made["key"].removeprefix("xy_").encode() not in stored
    listed = {key["id"]: key for key in await keys(program, "list", "--json")}
    assert made["key"] not in str(listed) and listed[made["id"]]["last_used_at"]
    await keys(program, "revoke", made["id"])
    await keys(program, "revoke", unused["id"])
    async with client.get("/chat/history?user_id=kept", headers=bearer(unused["key"])) as response:
        await problem_of(response, 401)
    async with asyncio.timeout(10):  # what was just used is remembered for some seconds
        while True:
            async with client.get("/chat/history?user_id=kept", headers=bearer(made["key"])) as response:
                if response.status == 401:
                    break
            await asyncio.sleep(0.1)  # the program says nothing when it forgets


async def test_too_many_requests_are_told_when_to_come_back(strict_client: aiohttp.ClientSession) -> None:
    async def ask(user_id: str, headers: Mapping[str, str] = {}) -> int:
        async with strict_client.post("/chat", json=said("hi", user_id), headers=headers) as response:
            if response.status == 429:
                await problem_of(response, 429)
                assert 1 <= int(response.headers["Retry-After"]) <= 15
            return response.status

    assert [await ask("busy") for _ in range(5)] == [200, 200, 200, 200, 429]
    assert await ask("calm") == 200
    async with strict_client.get("/chat/history?user_id=busy") as response:
        await problem_of(response, 429)
    async with strict_client.get("/health") as response:
        await answer_of(response)


async def test_a_keys_holder_has_one_limit_for_all_people(
    strict: Program, strict_client: aiohttp.ClientSession
) -> None:
    statuses = []
    first, other = [(await keys(strict, "create", name, "--json"))["key"] for name in ("first", "other")]
    for number in range(5):
        body = said("hi", f"person-{number}")
        async with strict_client.post("/chat", json=body, headers=bearer(first)) as response:
            statuses.append(response.status)
    assert statuses == [200, 200, 200, 200, 429]
    async with strict_client.post("/chat", json=said("hi", "x"), headers=bearer(other)) as response:
        await answer_of(response)
