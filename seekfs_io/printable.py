"""Text of others, as it may be shown: on one line, and nothing in it that a terminal would obey."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with escapes in place of line breaks, control codes and whatever else is not for the eye."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
