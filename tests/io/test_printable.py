"""Text of others, on one line and harmless."""

from __future__ import annotations

import os

import pytest

from seekfs_io.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("a b/100%+☃é'\"\\", "a b/100%+☃é'\"\\"),
        ("one\ntwo\r\t", "one\\ntwo\\r\\t"),
        ("\x1b[2J\x9b31m\x7f\0", "\\x1b[2J\\x9b31m\\x7f\\x00"),
        ("\u202egpj.exe\u2028", "\\u202egpj.exe\\u2028"),
        (os.fsdecode(b"\xff.bin"), "\\udcff.bin"),
    ],
)
def test_what_is_not_for_the_eye_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()
