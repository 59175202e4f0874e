"""Encryption at rest: nothing that was said stands anywhere on the disk, and only the right key opens it."""

from __future__ import annotations

import base64
import multiprocessing
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import ConfigError, KeyMismatch
from core.messages import Segment
from storage.keys import KEY_BYTES, KeyRing, load_or_create_key, parse_key
from tests.databases import (
    MASTER_KEY,
    NOW,
    Database,
    accept_one,
    answer,
    claim,
    claim_deliveries,
    commit,
    mariadb_database,
    sqlite_database,
    turn_of,
)
from tests.fakes.program import Program

SAID = "SAID-我把它藏在衣柜里-🕯️-nobody-knows"
ANSWERED = "ANSWERED-谢谢你愿意告诉我-🌙-thank-you"
DELIVERED = "DELIVERED-我会一直在-🍵-stay"
OTHER_KEY = bytes(reversed(MASTER_KEY))


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        yield sqlite_database(tmp_path)
    else:
        yield mariadb_database(request.getfixturevalue("mariadb"))


# --- nothing readable ---------------------------------------------------------------------------


async def test_nothing_said_or_answered_stands_on_the_disk(database: Database, tmp_path: Path) -> None:
    async with database.opened() as store:
        waiting = await accept_one(store, "e1", SAID, chat_id="waits")
        accepted = await accept_one(store, "e2", SAID)
        _stays_secret(_files(database, tmp_path))
        await answer(store, accepted.conversation_id, ANSWERED, segments=(Segment(DELIVERED),))
        (delivery,) = await claim_deliveries(store, accepted.conversation_id)
        await store.write(lambda tx: tx.deliveries.mark_failed(delivery.id, "me", "timeout", None, NOW))
        await commit(store, turn_of(await claim(store, waiting.conversation_id), ANSWERED, defer=True))
        _stays_secret(_files(database, tmp_path))  # the write-ahead log included
    if database.server is not None:
        database.server.stop()
        database.server.start()
    _stays_secret(_files(database, tmp_path))


async def test_the_search_for_what_was_said_would_find_it(database: Database, tmp_path: Path) -> None:
    """The test above is worth something: a chat's id, which is not sealed, is seen by the same search."""
    async with database.opened() as store:
        await accept_one(store, "e1", "…", chat_id=SAID)
        with pytest.raises(AssertionError):
            _stays_secret(_files(database, tmp_path))


async def test_the_program_writes_down_nothing_that_was_said(tmp_path: Path) -> None:
    """The whole program, with its logs at their most talkative; the listener answers."""
    import aiohttp

    program = Program(tmp_path / "program", {"DEBUG": "true", "BURST_QUIET_SECONDS": "0"})
    await program.start()
    try:
        async with aiohttp.ClientSession() as session:
            body = {"message": SAID, "user_id": "ann"}
            async with session.post(f"{program.url}/chat", json=body) as response:
                assert response.status == 200, await response.text()
                replied = (await response.json())["reply"]
        files = [path for path in program.folder.rglob("*") if path.is_file()]
        _stays_secret(files, SAID, replied)
    finally:
        await program.stop()
    files = [path for path in program.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    _stays_secret(files, SAID, replied)
    (key_file,) = [path for path in files if path.name == "encryption.key"]
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


# --- whose key ----------------------------------------------------------------------------------


async def test_each_person_has_a_key_of_their_own(database: Database) -> None:
    async with database.opened() as store:
        for sender in ("ann", "bob", "eve"):
            await accept_one(store, sender, SAID, sender_id=sender)
    wrapped = [row[0] for row in database.rows("SELECT data_key FROM users")]
    bodies = [row[0] for row in database.rows("SELECT body FROM inbox")]
    assert len(set(wrapped)) == len(set(bodies)) == 3
    assert not any(MASTER_KEY in one for one in wrapped)


def test_a_person_s_words_do_not_open_with_another_s_key() -> None:
    keys = KeyRing(MASTER_KEY)
    ann, bob = keys.new_data_key(), keys.new_data_key()
    sealed = keys.seal(ann, SAID, 1)
    assert keys.open(ann, sealed, 1) == SAID
    assert keys.seal(ann, SAID, 1) != sealed
    with pytest.raises(KeyMismatch):
        keys.open(bob, sealed, 1)
    with pytest.raises(KeyMismatch):
        keys.open(ann, sealed, 2)
    with pytest.raises(KeyMismatch):
        keys.open(ann, sealed[:-1] + bytes([sealed[-1] ^ 1]), 1)
    with pytest.raises(KeyMismatch):
        KeyRing(OTHER_KEY).open(ann, sealed, 1)


async def test_a_body_that_was_moved_to_another_row_does_not_open(database: Database) -> None:
    """Of the same person, even: who can write to the database must not put words into a mouth."""
    async with database.opened() as store:
        first = await accept_one(store, "e1", "不想去")
        second = await accept_one(store, "e2", "想去")
        ((body,),) = database.rows("SELECT body FROM inbox WHERE id = :id", id=first.inbox_id)
        database.change("UPDATE inbox SET body = :body WHERE id = :id", body=body, id=second.inbox_id)
        assert await store.read(lambda tx: tx.inbox.text_of(first.inbox_id)) == "不想去"
        with pytest.raises(KeyMismatch):
            await store.read(lambda tx: tx.inbox.text_of(second.inbox_id))


# --- the right key ------------------------------------------------------------------------------


async def test_rows_of_another_key_are_refused_at_the_start(database: Database) -> None:
    async with database.opened() as store:
        accepted = await accept_one(store, "e1", SAID)
    other = Database(database.url, KeyRing(OTHER_KEY), database.server)
    with pytest.raises(KeyMismatch, match="ENCRYPTION_KEY"):
        async with other.opened():
            raise AssertionError
    async with database.opened() as store:
        assert await store.read(lambda tx: tx.inbox.text_of(accepted.inbox_id)) == SAID


async def test_an_empty_database_takes_any_key(database: Database) -> None:
    async with database.opened():
        pass
    other = Database(database.url, KeyRing(OTHER_KEY), database.server)
    async with other.opened() as store:
        await accept_one(store, "e1")


def test_a_key_is_read_in_both_alphabets_of_base64() -> None:
    key = bytes([0xFB, 0xFF] * 16)
    for text in (base64.b64encode(key), base64.urlsafe_b64encode(key), base64.b64encode(key) + b"\n"):
        assert parse_key(text.decode()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "A" * 44,
        base64.b64encode(b"short").decode(),
        base64.b64encode(b"x" * 33).decode(),
        "密钥" * 22,
    ],
)
def test_a_malformed_key_is_refused_with_what_to_do_and_without_the_key(text: str) -> None:
    with pytest.raises(ConfigError, match=r"ENCRYPTION_KEY.*xinyu keys encryption") as refused:
        parse_key(text)
    assert not text or text not in str(refused.value)


# --- the key file -------------------------------------------------------------------------------


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "encryption.key"
    old = os.umask(0)
    try:
        key = load_or_create_key(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(key) == KEY_BYTES
    assert load_or_create_key(path) == key
    assert [one.name for one in path.parent.iterdir()] == ["encryption.key"]


def test_processes_that_start_for_the_first_time_at_once_agree_on_a_key(tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    with multiprocessing.get_context("spawn").Pool(6) as pool:
        keys = set(pool.map(load_or_create_key, [path] * 24, chunksize=1))
    assert keys == {load_or_create_key(path)}
    assert [one.name for one in tmp_path.iterdir()] == ["encryption.key"]


def test_two_containers_on_one_volume_agree_on_a_key(tmp_path: Path) -> None:
    """Each of them is process 1: a process id tells nobody apart. Threads stand in for them."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            path = tmp_path / str(number) / "encryption.key"
            path.parent.mkdir()
            keys = set(pool.map(load_or_create_key, [path] * 8))
            assert keys == {load_or_create_key(path)}


@pytest.mark.parametrize("content", [b"", b"not a key\n", b"\xff\xfe", base64.b64encode(b"short")])
def test_a_damaged_key_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "encryption.key"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"encryption\.key.*backup"):
        load_or_create_key(path)
    assert path.read_bytes() == content


# --- looks --------------------------------------------------------------------------------------


def _files(database: Database, folder: Path) -> list[Path]:
    """Everything that a database keeps on the disk: logs, temporary files and all."""
    root = folder if database.server is None else database.server.folder
    return [path for path in root.rglob("*") if path.is_file()]


def _stays_secret(files: Iterable[Path], *secrets: str) -> None:
    """None of what was said is in these files, whole or in part, in any encoding a database might use."""
    parts = [part for secret in secrets or (SAID, ANSWERED, DELIVERED) for part in _parts(secret)]
    forms = [
        part.encode(encoding) for part in parts for encoding in ("utf-8", "utf-16-le", "utf-16-be", "gb18030")
    ]
    forms += [part.encode("unicode_escape") for part in parts]
    seen = 0
    for path in files:
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # a temporary file
            continue
        seen += len(content)
        for form in forms:
            assert form not in content, f"{form!r} in {path}"
    assert seen > 0


def _parts(secret: str) -> list[str]:
    return [part for part in secret.split("-") if len(part.encode()) >= 12] or [secret]
