"""Where credentials come from: the AWS chain (environment, profile, process, container, instance).

botocore looks them up, which may run a program, read files and ask servers. So it happens on a thread of
its own, one search at a time, and never under a lock. Whoever needs the result waits for it, for a bounded
time; when there is a search at all is decided in ``seekfs_core.credentials``.

Whatever goes wrong becomes a ``StoreFailure``: passing where a source could not be reached, final where it
is set up wrongly. Its text names the source and the kind of trouble. It never quotes what botocore says of
values, which may be a token or the output of a program; only what can hold no more than names.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import assert_never

import botocore.session
from attrs import define, field, frozen
from botocore import exceptions
from botocore.credentials import Credentials, ReadOnlyCredentials

from seekfs_core.credentials import CredentialLife, Refused, Use, kind_of_source_answer, not_in_time
from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_io.config_rules import is_credential
from seekfs_io.objects.answers import printable
from seekfs_io.objects.base import StoreError
from seekfs_io.objects.connection_failures import reason_of

_log = logging.getLogger("seekfs.store")

# botocore writes canonical requests and signatures at debug level, and as a warning why credentials could not
# be renewed, with whatever the source had sent. What there is to say of that is said here.
logging.getLogger("botocore").setLevel(logging.CRITICAL)

_SOURCES = {
    "env": "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, "
    "AWS_CREDENTIAL_EXPIRATION)",
    "assume-role": "the role of the AWS profile (role_arn)",
    "assume-role-with-web-identity": "the web identity (AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN)",
    "sso": "the single sign-on of the AWS profile (sso_session)",
    "login": "the sign-in of the AWS profile (login_session)",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the AWS configuration file",
    "custom-process": "the program of the AWS profile (credential_process)",
    "container-role": "the container's endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI, "
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN)",
    "iam-role": "the instance's metadata service",
}
_SET_UP = "the AWS settings (environment, configuration file, profile)"

_NAMES_ONLY = (
    exceptions.ConfigNotFound,
    exceptions.ConfigParseError,
    exceptions.InfiniteLoopConfigError,
    exceptions.InvalidConfigError,
    exceptions.InvalidIMDSEndpointError,
    exceptions.InvalidIMDSEndpointModeError,
    exceptions.PartialCredentialsError,
    exceptions.ProfileNotFound,
    exceptions.UnknownCredentialError,
)
"""Exceptions whose text names files, profiles and variables, and no value of theirs that is a secret."""

_OUT_OF_REACH = (
    exceptions.ConnectionError,
    exceptions.CredentialRetrievalError,
    exceptions.HTTPClientError,
    exceptions.MetadataRetrievalError,
    exceptions.TokenRetrievalError,
    MemoryError,
)

_FILE_IS_WRONG = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ELOOP}
)


@frozen
class Held:
    """Credentials at hand. ``number`` as in ``CredentialLife``; 0 for those of the configuration."""

    number: int
    keys: ReadOnlyCredentials = field(repr=False)


@frozen
class Found:
    """What a search brought. ``ends_at`` in seconds since 1970, where that is known."""

    keys: ReadOnlyCredentials = field(repr=False)
    ends_at: float | None


@define(eq=False)
class _Search:
    """One that is under way; its outcome is set before it is over."""

    over: threading.Event = field(factory=threading.Event)
    outcome: Held | StoreFailure | None = None


@define(eq=False)
class _State:
    """What belongs to one process: a lock, or a search, of a parent's is not this one's."""

    pid: int = field(factory=os.getpid)
    lock: threading.Lock = field(factory=threading.Lock)
    life: CredentialLife = field(factory=CredentialLife)
    held: Held | None = None
    search: _Search | None = None


@define(eq=False)
class CredentialChain:
    """Credentials of the chain, looked up when first needed, again in a forked child, and renewed.

    ``wait_seconds_max`` is how long a request waits for a search. ``wall_clock`` tells the time that
    credentials end by, in seconds since 1970; ``clock`` is monotonic. Calls may come from many threads.
    """

    wait_seconds_max: float
    wall_clock: Callable[[], float]
    clock: Callable[[], float] = time.monotonic
    _current: _State = field(factory=_State, init=False, repr=False)

    def held(self) -> Held:
        """To sign with now. Raises ``StoreError`` where there are none to be had."""
        state = self._state()
        with state.lock:
            use = state.life.use(self.clock())
            held, search, job = state.held, *self._searching(state, use is not Use.AT_HAND)
        _run(job)
        match use:
            case Use.AT_HAND | Use.AT_HAND_AND_SEARCH:
                assert held is not None
                return held
            case Use.ONCE_FOUND:
                return self._outcome(search)
            case _:
                assert_never(use)

    def accepted(self, held: Held) -> None:
        """The store has done what was asked with these."""
        state = self._state()
        with state.lock:
            state.life.accepted(held.number)

    def replaced(self, refused: Held) -> bool:
        """The store has refused these as expired: whether there are others now.

        Raises ``StoreError`` where none could be looked for.
        """
        state = self._state()
        with state.lock:
            verdict = state.life.refused(refused.number, self.clock())
            search, job = self._searching(state, verdict is Refused.SEARCH)
        _run(job)
        match verdict:
            case Refused.REPLACED:
                return True
            case Refused.SEARCH:
                return self._outcome(search).number != refused.number
            case Refused.FINAL:
                return False
            case _:
                assert_never(verdict)

    def _state(self) -> _State:
        if self._current.pid != os.getpid():
            self._current = _State()
        return self._current

    def _searching(self, state: _State, wanted: bool) -> tuple[_Search | None, Callable[[], None] | None]:
        """The search under way, and what is to be run, without the lock, to begin one that is ``wanted``."""
        if not wanted or state.search is not None:
            return state.search, None
        state.life.search_begun()
        state.search = search = _Search()
        return search, lambda: self._search(state, search)

    def _outcome(self, search: _Search | None) -> Held:
        assert search is not None
        if not search.over.wait(self.wait_seconds_max):
            raise StoreError(not_in_time(self.wait_seconds_max))
        if isinstance(search.outcome, StoreFailure):
            raise StoreError(search.outcome)
        assert search.outcome is not None
        return search.outcome

    def _search(self, state: _State, search: _Search) -> None:
        found: Found | StoreFailure
        try:
            found = look_up()
        except StoreError as error:
            found = error.failure
        with state.lock:
            now, state.search = self.clock(), None
            if isinstance(found, Found):
                is_same = state.held is not None and state.held.keys == found.keys
                left = None if found.ends_at is None else found.ends_at - self.wall_clock()
                state.life.found(left, now, is_same=is_same)
                state.held = search.outcome = Held(state.life.number, found.keys)
            else:
                search.outcome = state.life.not_found(found, now)
            are_good = state.life.is_good(now)
        search.over.set()
        if isinstance(found, StoreFailure) and are_good:
            _log.warning("the credentials at hand stay in use; they could not be renewed: %s", found.detail)


def _run(job: Callable[[], None] | None) -> None:
    if job is None:
        return
    try:
        threading.Thread(target=job, name="seekfs-credentials", daemon=True).start()
    except RuntimeError:
        job()  # The system gives no more threads: this one waits then, and nobody for ever.


def look_up() -> Found:
    """Ask the whole chain, from the start. Raises ``StoreError``."""
    source = _SET_UP
    try:
        chain = botocore.session.Session().get_component("credential_provider")
        for provider in chain.providers:
            source = _SOURCES.get(provider.METHOD, f"the source {provider.METHOD!r}")
            found = provider.load()
            if found is not None:
                return _usable(found, source)
    except StoreError:
        raise
    except Exception as error:
        raise _failed(source, error) from None
    raise _refused(
        "no credentials: neither s3.access_key_id is configured, nor does the AWS credential chain "
        "(environment, shared files, container, instance) know any; s3.anonymous = true asks unsigned"
    )


def _usable(found: Credentials, source: str) -> Found:
    keys = found.get_frozen_credentials()
    named = {
        "access key": keys.access_key,
        "secret key": keys.secret_key,
        "session token": keys.token or "none",
    }
    for what, value in named.items():
        if not (isinstance(value, str) and value and is_credential(value)):
            raise _refused(
                f"the credentials of {source} cannot be used: the {what} is not visible ASCII without spaces"
            )
    # botocore shows the end nowhere else; where it is not there, the store's refusal tells of it.
    ends: datetime | None = getattr(found, "_expiry_time", None)
    return Found(keys, None if ends is None else ends.timestamp())


def _failed(source: str, error: Exception) -> StoreError:
    if isinstance(error, exceptions.HTTPClientError) and isinstance(error.__context__, ValueError):
        error = error.__context__  # Nothing was sent: a value cannot stand in a request.
    detail = f"no credentials from {source}: {_why(error)}"
    return StoreError(StoreFailure(kind=_kind_of(error), detail=detail))


def _refused(detail: str) -> StoreError:
    return StoreError(StoreFailure(kind=FailureKind.DENIED, detail=detail))


def _kind_of(error: Exception) -> FailureKind:
    if isinstance(error, exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return kind_of_source_answer(status, error.response.get("Error", {}).get("Code"))
    if isinstance(error, OSError):
        is_away = error.errno not in _FILE_IS_WRONG
    else:
        is_away = isinstance(error, _OUT_OF_REACH)
    return FailureKind.UNREACHABLE if is_away else FailureKind.DENIED


def _why(error: Exception) -> str:
    """What went wrong, without any value; see the module's text."""
    match error:
        case exceptions.ClientError():
            code = str(error.response.get("Error", {}).get("Code", ""))
            return (
                f"it answered {code}" if is_credential(code) and len(code) <= 64 else "it answered an error"
            )
        case json.JSONDecodeError() | RecursionError():
            return "what it says is not JSON"
        case UnicodeError():
            return "it has letters that cannot be used"
        case KeyError() | TypeError() | AttributeError():
            return f"it lacks a field, or one is of another type ({type(error).__name__})"
        case RuntimeError():
            return "what it gives has expired already, by the clock of this machine"
        case OSError():
            name = error.filename if isinstance(error.filename, str) else None
            what = error.strerror or type(error).__name__
            return what if name is None else f"{name!r}: {what}"
        case _ if isinstance(error, _NAMES_ONLY):
            return printable(str(error))
        case _ if isinstance(error, _OUT_OF_REACH):
            return f"it failed or cannot be reached{reason_of(error)}"
        case _:
            return f"it holds a value that cannot be used ({type(error).__name__})"
