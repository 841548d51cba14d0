"""Reading the body of a request, never more of it than allowed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from seekfs_core.errors import BadRequest, SeekfsError, TooLarge
from seekfs_wsgi.sending import Disconnected

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_STEP_BYTES = 1024 * 1024
"""Read at once: a server need not hold a body twice to hand it over."""

_LENGTH = re.compile(r"[0-9]+")
_LENGTH_DIGITS_MAX = 18


def read_body(environ: WSGIEnvironment, bytes_max: int) -> bytearray:
    """The whole body, whether it came with ``Content-Length`` or chunked.

    Raises ``TooLarge`` without reading a body that announces too much, and after ``bytes_max`` of one
    that does not say; ``BadRequest`` for one that ends early or is malformed; ``Disconnected``; and what
    ``connections`` raise of a body while it comes.
    """
    encoding = environ.get("HTTP_CONTENT_ENCODING", "")
    if encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType(f"a body encoded as {encoding[:40]!r}; send it plain")
    announced = environ.get("CONTENT_LENGTH")
    if announced:
        if not _LENGTH.fullmatch(announced):
            raise BadRequest(f"Content-Length {announced[:40]!r} is no length")
        if len(announced) > _LENGTH_DIGITS_MAX:
            raise too_large(f"as long as a number of {len(announced)} digits can say", bytes_max)
        length = int(announced)
        if length > bytes_max:
            raise too_large(f"{length} bytes", bytes_max)
        body = _read(environ, length)
        if len(body) < length:
            raise BadRequest(f"the body ended after {len(body)} of {length} bytes")
        return body
    # Without a length only a server that marks the end of the input can be read to its end.
    if "HTTP_TRANSFER_ENCODING" in environ and environ.get("wsgi.input_terminated"):
        body = _read(environ, bytes_max + 1)
        if len(body) > bytes_max:
            raise too_large("more", bytes_max)
        return body
    return bytearray()


def _read(environ: WSGIEnvironment, bytes_wanted: int) -> bytearray:
    read = environ["wsgi.input"].read
    body = bytearray()
    while len(body) < bytes_wanted:
        try:
            part = read(min(bytes_wanted - len(body), _STEP_BYTES))
        except (SeekfsError, HTTPException):
            # Where the server is our own, it says itself what was wrong.
            raise
        except OSError as error:
            raise Disconnected(f"the body could not be read: {error}") from None
        except Exception as error:
            # The server's own exception for a chunk or trailer that is malformed.
            raise BadRequest(f"the body is malformed: {error}") from None
        if not part:
            break
        body += part
    return body


def too_large(what: str, bytes_max: int) -> TooLarge:
    """``what`` is how much the body is."""
    return TooLarge(
        f"the body is {what}; at most {bytes_max} bytes (api.request_max_mib) are read", bytes_max=bytes_max
    )
