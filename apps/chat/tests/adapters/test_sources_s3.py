"""Sources of scripts in a real object store."""

from __future__ import annotations

import uuid

import pytest

from chat.adapters.sources import digest_of
from chat.adapters.sources_s3 import S3Sources
from chat.problems import Unavailable
from deploy.servers import ObjectStore


@pytest.mark.parametrize("source", [b"", b"def handle(message):\n    return message\n", bytes(range(256)) * 256])
async def test_what_was_put_is_there(object_store: ObjectStore, source: bytes) -> None:
    """Under its digest, for other processes too, however often it was put."""
    assert await S3Sources(object_store.url).put(source) == digest_of(source)
    assert await S3Sources(object_store.url).put(source) == digest_of(source)
    assert await S3Sources(object_store.url).get(digest_of(source)) == source


async def test_what_was_not_put_is_not_there(object_store: ObjectStore) -> None:
    with pytest.raises(KeyError):
        await S3Sources(object_store.url).get(digest_of(uuid.uuid4().bytes))


async def test_a_wrong_key_or_bucket_is_no_missing_source(object_store: ObjectStore) -> None:
    digest = await S3Sources(object_store.url).put(b"source")
    for url in (object_store.url.replace("chat-secret", "wrong"), object_store.url.replace("/scripts", "/other")):
        with pytest.raises(Unavailable, match="the object store"):
            await S3Sources(url).put(b"source")
    with pytest.raises(Unavailable, match="the object store"):
        await S3Sources(object_store.url.replace("chat-secret", "wrong")).get(digest)


async def test_the_store_may_go_and_come_back(object_store: ObjectStore) -> None:
    sources = S3Sources(object_store.url)
    digest = await sources.put(b"source")
    await object_store.kill()
    try:
        with pytest.raises(Unavailable, match="the object store"):
            await sources.get(digest)
        with pytest.raises(Unavailable, match="the object store"):
            await sources.put(b"another")
    finally:
        await object_store.start()
    assert await sources.get(digest) == b"source"
