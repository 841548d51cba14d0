"""A request as gunicorn parses it, and held to HTTP where gunicorn is more lenient.

What can be read in two ways is refused, before anything is made of it, and its connection is closed:

* a ``#`` in the target. gunicorn takes it for the beginning of a fragment and drops the rest, so that whoever
  forgot to escape ``a#b`` would get the bytes of ``a``;
* HTTP/1.1 without a ``Host``, or one that is none (RFC 9112, 3.2);
* a body in another coding than ``chunked``, which nothing here would undo;
* a small body in chunks that is malformed, also where nobody asks for it.

And an answer says ``Connection: close`` whenever the connection is going to be closed.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from gunicorn.http import Request  # type: ignore[import-untyped]

from seekfs_core.errors import BadRequest
from seekfs_wsgi.query import shown

if TYPE_CHECKING:
    from seekfs_wsgi.arrival import Arrival

_HOST = re.compile(
    r"(?:\[[0-9A-Za-z:._~!$&'()*+,;=-]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
"""An address in brackets or a name, and a port (RFC 3986, 3.2.2). Both may be absent."""

_HIGHEST_VERSION = (1, 1)


class StrictRequest(Request):  # type: ignore[misc]  # gunicorn has no types
    """See the module's text. Read from a ``ClientSocket``, whose ``arrival`` is of this very request."""

    arrival: Arrival
    version: tuple[int, int]
    body: Any
    _is_coded = False
    _says_close = False

    def parse(self, unreader: Any) -> Any:
        """The head; what follows it is given back. Raises ``BadRequest``, and what gunicorn does."""
        self.arrival = unreader.sock.arrival
        rest = super().parse(unreader)
        if "#" in self.uri:
            raise BadRequest(
                f"the target {shown(self.uri)} has a '#', which belongs to no request: "
                "as a part of a name it is to be percent-encoded (%23)"
            )
        self._look_at_headers()
        # An answer is in the highest version that is spoken here (RFC 9110, 6.2).
        self.version = min(self.version, _HIGHEST_VERSION)
        return rest

    def set_body_reader(self) -> None:
        """As gunicorn does it, and a body in chunks that has come in whole is decoded at once."""
        super().set_body_reader()
        if self._is_coded and self.arrival.is_whole:
            self.body = io.BytesIO(self.body.read())

    def should_close(self) -> bool:
        """Whether no other request can follow. Asked when the answer's head is made, and once it is out."""
        # Where the body's end was not come to, nobody knows where a next request would begin.
        if not self.arrival.is_whole or getattr(self.body, "failed", False):
            return True
        return self._says_close or bool(super().should_close())

    def _look_at_headers(self) -> None:
        """Once over all of them: a small read is to cost little."""
        host: str | None = None
        codings: list[str] = []
        for name, value in self.headers:
            match name:
                case "HOST" if host is None:
                    host = value
                case "TRANSFER-ENCODING":
                    codings.append(value)
                case "CONNECTION":
                    options = value.lower().split(",")
                    self._says_close |= any(option.strip(" \t") == "close" for option in options)
        if host is None:
            if self.version >= (1, 1):
                raise BadRequest("a request of HTTP/1.1 has a header Host, and this one has none")
        elif not _HOST.fullmatch(host):
            raise BadRequest(f"the header Host is {shown(host)}, which is no host and port")
        self._is_coded = bool(codings)
        coding = ",".join(codings)
        if coding and coding.lower() != "chunked":
            raise BadRequest(f"a body in the coding {shown(coding)}; only 'chunked' is taken")
