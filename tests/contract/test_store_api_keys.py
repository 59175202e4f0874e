"""core.ports.ApiKeyRows on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from core.ids import new_id
from core.ports import Store
from tests.databases import NOW

HASH = bytes(range(224, 256))
SCOPES = frozenset({"chat", "system"})
LATER = NOW + timedelta(microseconds=1)


async def test_a_key_is_found_by_its_hash_alone(store: Store) -> None:
    added = await store.write(lambda tx: tx.api_keys.add("我的网站", HASH, SCOPES, NOW))
    assert await store.read(lambda tx: tx.api_keys.find(HASH)) == added
    assert (added.name, added.scopes, added.created_at) == ("我的网站", SCOPES, NOW)
    assert await store.read(lambda tx: tx.api_keys.find(HASH[:-1])) is None
    assert await store.read(lambda tx: tx.api_keys.find(HASH + b" ")) is None


async def test_a_key_without_scopes_has_none(store: Store) -> None:
    await store.write(lambda tx: tx.api_keys.add("none", HASH, frozenset(), NOW))
    (key,) = await store.read(lambda tx: tx.api_keys.list())
    assert key.scopes == frozenset()


async def test_two_keys_never_share_a_hash(store: Store) -> None:
    await store.write(lambda tx: tx.api_keys.add("one", HASH, SCOPES, NOW))
    with pytest.raises(IntegrityError):
        await store.write(lambda tx: tx.api_keys.add("two", HASH, SCOPES, NOW))
    assert [key.name for key in await store.read(lambda tx: tx.api_keys.list())] == ["one"]


async def test_a_revoked_key_is_listed_and_no_longer_found(store: Store) -> None:
    key = await store.write(lambda tx: tx.api_keys.add("one", HASH, SCOPES, NOW))
    other = await store.write(lambda tx: tx.api_keys.add("two", HASH[::-1], SCOPES, NOW))
    assert await store.write(lambda tx: tx.api_keys.revoke(key.id, LATER))
    assert not await store.write(lambda tx: tx.api_keys.revoke(key.id, LATER))
    assert not await store.write(lambda tx: tx.api_keys.revoke(new_id(), LATER))
    assert await store.read(lambda tx: tx.api_keys.find(HASH)) is None
    assert await store.read(lambda tx: tx.api_keys.list()) == [replace(key, revoked_at=LATER), other]


async def test_the_last_use_is_kept(store: Store) -> None:
    key = await store.write(lambda tx: tx.api_keys.add("one", HASH, SCOPES, NOW))
    await store.write(lambda tx: tx.api_keys.mark_used(key.id, LATER))
    assert await store.read(lambda tx: tx.api_keys.find(HASH)) == replace(key, last_used_at=LATER)
