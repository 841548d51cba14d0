"""Whether anything that the suite makes seekfs say holds a secret or a signature.

Every secret of the tests, that of the store they run against too, has ``MARK`` in it: what is said is looked
through for that, for what an ``Authorization`` header is made of, and, when the run ends, for every signature
that a pass-through has seen.

* A text (what a command printed, a problem document, the metrics, a line that is logged in this process) is
  looked through when it is ``said``, and fails the test that made it. It is told again when the run ends,
  since whoever said it may have caught the failure, or be a thread that no test looks at.
* A file (the log of a daemon) is ``kept`` and looked through when the run ends, whatever became of its test.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import Final

from attrs import define, field

from seekfs_io.logs import TextFormatter

MARK: Final = "SECRETTOKEN123"
STORE_SECRET: Final = f"{MARK}/of+the+store"
"""The secret key of the S3 server that the tests share. The slash and the pluses are for those who escape."""

_ALWAYS: Final = re.compile(
    rf"{MARK}|AWS4-HMAC-SHA256|Signature=|X-Amz-Credential=|Proxy-Authorization", re.IGNORECASE
)
_SIGNATURE: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def found_in(text: str) -> str | None:
    """What a text should not have, with some of what stands around it."""
    found = _ALWAYS.search(text)
    return None if found is None else text[max(0, found.start() - 200) : found.end() + 50]


@define(eq=False)
class Outputs:
    """What was said in one run. Safe to use from many threads: sets take one item at a time."""

    files: set[Path] = field(factory=set)
    signatures: set[bytes] = field(factory=set)
    """Digests of those that were sent to a store."""

    hashes: dict[bytes, str] = field(factory=dict)
    """What was said and could be a signature, as a digest, and by whom."""

    found: list[str] = field(factory=list)
    """What was said and should not have been."""

    texts_count: int = 0

    def sent(self, authorization: str | None) -> None:
        """A request went out with this header."""
        _, _, signature = (authorization or "").partition("Signature=")
        if signature:
            self.signatures.add(_digest(signature))

    def said(self, text: str | bytes, by: str) -> None:
        text = text if isinstance(text, str) else text.decode(errors="replace")
        self.texts_count += 1
        if (found := found_in(text)) is not None:
            self.found.append(f"{by}: …{found}…")
            raise AssertionError(f"{by} says what nobody may know: …{found}…")
        self._note_hashes(text, by)

    def kept(self, file: Path) -> None:
        self.files.add(file)

    def leaks(self) -> list[str]:
        """Everything that was found, or is in the files, and every signature anywhere."""
        leaks = list(self.found)
        for file in sorted(self.files):
            if not file.exists():
                continue
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                if (found := found_in(line)) is not None:
                    leaks.append(f"{file}: …{found}…")
                self._note_hashes(line, str(file))
        leaks += [f"{by}: a signature" for seen, by in self.hashes.items() if seen in self.signatures]
        return leaks

    def _note_hashes(self, text: str, by: str) -> None:
        for each in _SIGNATURE.findall(text):
            self.hashes.setdefault(_digest(each), by)


def _digest(signature: str) -> bytes:
    """Half as long; and not what is looked for, in case this very set is shown."""
    return hashlib.blake2b(signature.encode(), digest_size=16).digest()


OUTPUTS: Final = Outputs()


class Listener(logging.Handler):
    """Hears what seekfs logs in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        OUTPUTS.said(self.format(record), f"the logger {record.name}")
