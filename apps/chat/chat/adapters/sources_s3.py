"""The sources of user scripts in any store that speaks S3: a bucket, in which each lies under its digest.

`s3://` is plain HTTP, for a store on a trusted network, and `s3s://` HTTPS. The bucket is made by whoever sets up the
store. A source is there whole or not at all, and to put it twice is to put it once.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import S3Store

from chat import limits
from chat.adapters.sources import digest_of
from chat.problems import Unavailable

REGION = "us-east-1"
"""What stores without regions call theirs; it is part of what is signed."""


class S3Sources:
    """Sources in the bucket at `s3://key:secret@host:port/bucket?region=…`; see `Sources`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        tls = parts.scheme == "s3s"
        patience = timedelta(seconds=limits.SERVER_SECONDS_MAX)
        self._store = S3Store(
            parts.path.strip("/"),
            endpoint=f"{'https' if tls else 'http'}://{parts.netloc.rpartition('@')[2]}",
            access_key_id=unquote(parts.username or ""),
            secret_access_key=unquote(parts.password or ""),
            region=parse_qs(parts.query).get("region", [REGION])[0],
            client_options={"allow_http": not tls, "timeout": patience, "connect_timeout": patience},
            retry_config={"max_retries": 2, "retry_timeout": patience},
        )

    async def put(self, source: bytes) -> str:
        """See `Sources`."""
        digest = digest_of(source)
        try:
            await self._store.put_async(digest, source)
        except (BaseError, FileNotFoundError) as error:  # the latter if there is no bucket
            raise Unavailable("the object store") from error
        return digest

    async def get(self, digest: str) -> bytes:
        """See `Sources`."""
        try:
            found = await self._store.get_async(digest)
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            raise KeyError(digest) from None
        except BaseError as error:
            raise Unavailable("the object store") from error
