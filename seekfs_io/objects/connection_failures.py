"""What urllib3 raises, as failures: before an answer's head has come, or in its body."""

from __future__ import annotations

import ssl

from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from seekfs_core.errors import FailureKind, StoreFailure


def failure_before_head(method: str, error: Exception) -> StoreFailure:
    """No answer came, or none that is HTTP. Whether the store did the work is not known."""
    match error:
        case NameResolutionError():
            kind, what = FailureKind.UNREACHABLE, "the store's name is not known"
        case NewConnectionError():
            kind, what = FailureKind.UNREACHABLE, "the store cannot be connected to"
        case ConnectTimeoutError():
            kind, what = FailureKind.UNREACHABLE, "the store did not accept a connection in time"
        case ReadTimeoutError():
            kind, what = FailureKind.TIMED_OUT, "the store did not answer in time"
        case SSLError():
            kind, what = FailureKind.UNREACHABLE, "no TLS connection to the store"
        case ProxyError():
            kind, what = FailureKind.UNREACHABLE, "the proxy cannot be connected to"
        case ProtocolError() | OSError():
            kind, what = FailureKind.UNREACHABLE, "the connection broke before the answer"
        case _:
            kind, what = FailureKind.BAD_ANSWER, f"no answer ({type(error).__name__})"
    return StoreFailure(kind=kind, detail=f"{method}: {what}{reason_of(error)}")


def failure_in_body(method: str, error: Exception) -> StoreFailure:
    """The head of an answer came, and its body not to the end."""
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return StoreFailure(kind=FailureKind.TIMED_OUT, detail=f"{method}: the answer fell silent")
    return StoreFailure(kind=FailureKind.CUT_SHORT, detail=f"{method}: the answer broke off")


def reason_of(error: BaseException) -> str:
    """What the operating system or TLS said, wherever urllib3 has wrapped it. Never a URL."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if each in seen:
            continue
        seen.append(each)
        if isinstance(each, ssl.SSLCertVerificationError):
            return f" ({each.verify_message})"
        if isinstance(each, ssl.SSLError) and each.reason:
            return f" ({each.reason})"
        if isinstance(each, OSError) and each.strerror:
            return f" ({each.strerror})"
        related = (each.__cause__, each.__context__, *each.args, getattr(each, "original_error", None))
        waiting += [other for other in related if isinstance(other, BaseException)]
    return ""
