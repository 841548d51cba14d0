"""S3 for an event loop: signed by botocore, parsed by h11, one connection for each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import h11
from attrs import define, field
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.store_answers import kind_of_answer


class Failed(Exception):
    """A request that failed, as the core understands it."""

    def __init__(self, kind: FailureKind, detail: str, **facts: Any) -> None:
        self.failure = StoreFailure(kind=kind, detail=detail, **facts)


@define
class Answer:
    """The open body of a GET."""

    etag: str | None
    size: int
    _more: Callable[[], Any]
    _came: bytearray = field(factory=bytearray)

    async def exactly(self, length: int) -> bytearray:
        """The next bytes, so many of them. Raises ``Failed``."""
        while len(self._came) < length:
            if not isinstance(event := await self._more(), h11.Data):
                raise Failed(FailureKind.CUT_SHORT, "the body ended before its length")
            self._came += event.data
        page = self._came[:length]
        del self._came[:length]
        return page


@define
class S3:
    """One bucket, with a connection for each request."""

    endpoint: str
    bucket: str
    credentials: Credentials
    region: str = "us-east-1"

    @asynccontextmanager
    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncIterator[Answer]:
        url = f"{self.endpoint}/{self.bucket}/{quote(key)}"
        ranged = {} if stop is None else {"Range": f"bytes={start}-{stop - 1}"}
        request = AWSRequest("GET", url, headers=ranged)
        S3SigV4Auth(self.credentials, "s3", self.region).add_auth(request)
        where, writer, wire = urlsplit(url), None, h11.Connection(h11.CLIENT)
        try:
            stream, writer = await asyncio.open_connection(where.hostname, where.port or 80)

            async def more() -> Any:
                while (event := wire.next_event()) is h11.NEED_DATA:
                    wire.receive_data(await stream.read(1 << 16))
                return event

            sent = [("Host", where.netloc), *request.headers.items()]
            ask = h11.Request(method="GET", target=where.path, headers=sent)
            writer.write((wire.send(ask) or b"") + (wire.send(h11.EndOfMessage()) or b""))
            head = await more()
            told = {name.decode(): value.decode() for name, value in head.headers}
            if head.status_code != (200 if stop is None else 206):
                kind = kind_of_answer(head.status_code, None, conditional=False)
                raise Failed(kind, f"GET was answered {head.status_code}", status=head.status_code)
            size = told["content-length"]
            if stop is not None:
                got, _, size = told.get("content-range", "").partition("/")
                if got != f"bytes {start}-{stop - 1}":
                    raise Failed(FailureKind.BAD_ANSWER, f"the answer is {got!r}")
            yield Answer(told.get("etag"), int(size), more)
        except (OSError, h11.RemoteProtocolError) as error:
            kind = FailureKind.UNREACHABLE if writer is None else FailureKind.CUT_SHORT
            raise Failed(kind, f"GET failed: {error}") from error
        finally:
            if writer is not None:
                writer.close()
