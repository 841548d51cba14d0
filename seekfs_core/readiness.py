"""Whether a node should get requests.

Reads are served from the store even while the tier on disk is off. That is said, and is no reason to be
taken out of service: slower is better than not at all. Only a node that is stopping is not ready.
"""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Readiness:
    """``reasons`` speak against it or limit it, in sentences."""

    ready: bool
    reasons: tuple[str, ...]


def readiness_of(*, closing: bool, disk_off_because: str | None) -> Readiness:
    """``disk_off_because`` is why the tier on disk is off, or None where it is on."""
    reasons = []
    if disk_off_because is not None:
        reasons.append(f"the tier on disk is off: {disk_off_because}")
    if closing:
        reasons.append("the daemon is stopping")
    return Readiness(ready=not closing, reasons=tuple(reasons))
