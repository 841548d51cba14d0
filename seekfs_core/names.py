"""What a namespace, a path, a key of the bucket and HEAD may look like, and where things lie.

Names are compared as bytes and never Unicode-normalised. Each rule exists once, as a function
that says what is wrong with a name (``path_fault``) or None; the ``check_*`` functions raise
what a caller gets to see. The layout of the bucket (docs/SPEC.md, section 2)::

    namespaces/{ns}/HEAD                      b"v-42\\n"
    namespaces/{ns}/manifests/v-{n}.json.gz   immutable
    namespaces/{ns}/files/{path}              put there by people
    namespaces/{ns}/objects/{sha256 hex}      put there by publishing, by content
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from seekfs_core.errors import InvalidName, ManifestInvalid

VERSION_MAX = 2**63 - 1
"""Versions run from 1 to here, so that every language's signed 64-bit integer holds them."""

NUMBER_MAX = 2**63 - 1
"""Offsets and lengths go from 0 to here, for the same reason."""

PATH_BYTES_MAX = 1024
"""UTF-8 bytes of a path; S3's own limit for a whole key."""

KEY_BYTES_MAX = 1024
"""UTF-8 bytes of a key of the bucket: S3's limit."""

HEAD_BYTES_MAX = 64
"""More than the longest HEAD (22 bytes); a larger object there is something else."""

PROBE_KEY = ".seekfs/conditional-writes-probe"
"""The one object of a bucket that proves that the store honours conditions on PUT."""

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DOT_SEGMENT = re.compile(r"(?:\A|/)(\.{1,2})(?:/|\Z)")
_HEAD = re.compile(rb"(?:v-?)?([0-9]+)\n?")
_PATH_STARTS_SUSPECT = ("", ".", "/")
_KEY_STARTS_SUSPECT = ("", ".")
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_OWN_KEY = re.compile(rf"namespaces/({_NAMESPACE.pattern})/(HEAD|manifests/v-[0-9]+\.json\.gz)")


def namespace_fault(ns: str) -> str | None:
    """What is wrong with a namespace's name, as the rest of a sentence, or None."""
    if _NAMESPACE.fullmatch(ns):
        return None
    return "is not a namespace: 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"


def path_fault(path: str) -> str | None:
    """What is wrong with a path, as the rest of a sentence, or None."""
    # Manifests have a million paths, nearly all of them plain: five C calls tell those.
    if (
        path.isprintable()
        and "/." not in path
        and "//" not in path
        and path[:1] not in _PATH_STARTS_SUSPECT
        and path[-1] != "/"
    ):
        return _length_fault(path, PATH_BYTES_MAX)
    if not path:
        return "is empty"
    fault = _text_fault(path)
    if fault is not None:
        return fault
    if path.startswith("/"):
        return "begins with '/'"
    if path.endswith("/"):
        return "ends with '/'"
    if "//" in path:
        return "has an empty segment ('//')"
    return _dot_fault(path) or _length_fault(path, PATH_BYTES_MAX)


def object_key_fault(key: str) -> str | None:
    """What is wrong with a key of the bucket, as the rest of a sentence, or None.

    Empty segments are fine here: people have such objects, and a manifest can describe them.
    """
    if key.isprintable() and "/." not in key and key[:1] not in _KEY_STARTS_SUSPECT:
        return _length_fault(key, KEY_BYTES_MAX)
    if not key:
        return "is empty"
    return _text_fault(key) or _dot_fault(key) or _length_fault(key, KEY_BYTES_MAX)


def _text_fault(text: str) -> str | None:
    if _SURROGATE.search(text):
        return "is not valid UTF-8 (lone surrogate)"
    control = _CONTROL.search(text)
    if control is not None:
        return f"has the control character U+{ord(control[0]):04X} at {control.start()}"
    return None


def _dot_fault(text: str) -> str | None:
    dots = _DOT_SEGMENT.search(text)
    return None if dots is None else f"has a segment {dots[1]!r}"


def _length_fault(text: str, bytes_max: int) -> str | None:
    # Four bytes is the longest that UTF-8 makes of a character, so most texts need no encoding.
    if len(text) * 4 <= bytes_max:
        return None
    length = len(text.encode("utf-8"))
    return None if length <= bytes_max else f"is {length} bytes long; at most {bytes_max} are allowed"


@frozen
class NoPath:
    """Why no file can be made of a key; ``reason`` goes behind the key and a colon."""

    reason: str


def path_of_key(prefix: str, key: str) -> str | NoPath:
    """The path of the object at ``key``, which begins with ``prefix``, in a version of what is there already.

    seekfs's own objects cannot be files of it: HEAD is replaced by the very version that would have it.
    """
    own = _own_object(key)
    if own is not None:
        return NoPath(f"it is seekfs's own {own}")
    path = key[len(prefix) :]
    fault = path_fault(path)
    if fault is not None:
        return NoPath(f"{path!r} {fault}")
    fault = object_key_fault(key)
    return path if fault is None else NoPath(f"as a key it {fault}")


def is_folder_marker(key: str, size_bytes: int) -> bool:
    """Whether an object only stands for a folder, as consoles make one where somebody makes a folder."""
    return size_bytes == 0 and key.endswith("/")


def _own_object(key: str) -> str | None:
    if key == PROBE_KEY:
        return "probe for conditional writes"
    own = _OWN_KEY.fullmatch(key)
    if own is None:
        return None
    return f"{'HEAD' if own[2] == 'HEAD' else 'manifest'} of namespace {own[1]!r}"


def meant_prefix(prefix: str, left_out: Iterable[str]) -> str | None:
    """``prefix`` with the slash that was forgotten, if one was: keys go on with it, and no path begins so."""
    if not prefix or prefix.endswith("/"):
        return None
    meant = f"{prefix}/"
    return meant if any(key.startswith(meant) for key in left_out) else None


def check_namespace(ns: str) -> str:
    """``ns`` itself, or ``InvalidName``."""
    return _checked("namespace", ns, namespace_fault(ns))


def check_path(path: str) -> str:
    """``path`` itself, or ``InvalidName``."""
    return _checked("path", path, path_fault(path))


def check_object_key(key: str) -> str:
    """``key`` itself, or ``InvalidName``."""
    return _checked("key", key, object_key_fault(key))


def _checked(what: str, name: str, fault: str | None) -> str:
    if fault is None:
        return name
    raise InvalidName(f"{what} {shown(name)} {fault}", parameter=what, value=ascii(name[:200]))


def shown(text: str) -> str:
    """A name, or what is in the place of one, for a sentence: one of megabytes does not belong into a log
    line or a problem document."""
    return repr(text) if len(text) <= 200 else f"{text[:200]!r}..."


def parse_head(stored: bytes, *, ns: str) -> int:
    """The version that the bytes of a namespace's HEAD object name, or ``ManifestInvalid``.

    Other writers leave out the dash, the ``v`` or the newline; all of these are read. Of an object that is
    longer than ``HEAD_BYTES_MAX`` that many bytes and one more are enough.
    """
    match = _HEAD.fullmatch(stored)
    if len(stored) > HEAD_BYTES_MAX:
        fault = f"is longer than {HEAD_BYTES_MAX} bytes"
    elif match is None:
        fault = f"holds {stored!r}, which names no version (expected b'v-42\\n')"
    elif not 1 <= (version := int(match[1])) <= VERSION_MAX:
        fault = f"names version {version}; versions are 1 to {VERSION_MAX}"
    else:
        return version
    raise ManifestInvalid(f"HEAD of namespace {ns!r} {fault}", ns=ns, key=head_key(ns))


def format_head(version: int) -> bytes:
    """What a HEAD object that names ``version`` holds."""
    return b"v-%d\n" % version


def head_key(ns: str) -> str:
    """The key of a namespace's HEAD."""
    return f"namespaces/{ns}/HEAD"


def manifest_key(ns: str, version: int) -> str:
    """The key of the manifest of one version."""
    return f"namespaces/{ns}/manifests/v-{version}.json.gz"


def files_prefix(ns: str) -> str:
    """What the keys of all objects under ``files/`` of a namespace begin with."""
    return f"namespaces/{ns}/files/"


def file_object_key(ns: str, path: str) -> str:
    """The key where people put a file, and where ``seekfs put`` puts it."""
    return f"namespaces/{ns}/files/{path}"


def is_etag(etag: str) -> bool:
    """Whether this may stand in If-Match: a line break in it would be another header."""
    return bool(etag) and etag.isascii() and etag.isprintable()


def content_object_key(ns: str, sha256_hex: str) -> str:
    """The key of content that publishing uploaded; ``sha256_hex`` is 64 lower-case digits."""
    if not _SHA256_HEX.fullmatch(sha256_hex):
        raise ValueError(f"not a SHA-256 in lower-case hex: {sha256_hex[:80]!r}")
    return f"namespaces/{ns}/objects/{sha256_hex}"
