"""An account of the memory that page buffers may take.

Room is *used* from the moment it is reserved, by a GET that starts or for a reader that wanted it,
until it is given up or has come back. The part of it that was delivered or granted is *given*: the
driver's, who says when it is free again.
"""

from __future__ import annotations

from attrs import define, field

from seekfs_core.errors import ContractViolation

GETS_LEAVE_PART = 4
"""GETs leave this part of the room to readers of what is on disk, store in trouble or not."""


@define
class Room:
    """All numbers are bytes; used <= ``bytes_max`` at every step."""

    bytes_max: int
    bytes_used: int = field(default=0, init=False)
    bytes_given: int = field(default=0, init=False)

    @property
    def gets_bytes_max(self) -> int:
        """What GETs use between them at most, but for one that is larger and has the room to itself."""
        return self.bytes_max - self.readers_bytes_min

    @property
    def readers_bytes_min(self) -> int:
        """What GETs leave to readers."""
        return self.bytes_max // GETS_LEAVE_PART

    def fits(self, length: int) -> bool:
        """Whether a reader may have ``length`` bytes now."""
        return self.bytes_used + length <= self.bytes_max

    def fits_get(self, length: int) -> bool:
        """Whether a GET of ``length`` bytes may start now."""
        return self.bytes_used + length <= max(length, self.gets_bytes_max)

    def reserve(self, length: int) -> None:
        """Take room that fits."""
        self.bytes_used += length
        assert self.bytes_used <= self.bytes_max

    def give(self, length: int) -> None:
        """What was reserved is the driver's now."""
        self.bytes_given += length
        assert self.bytes_given <= self.bytes_used

    def give_up(self, length: int) -> None:
        """What was reserved is not needed."""
        self.bytes_used -= length
        assert self.bytes_used >= self.bytes_given

    def take_back(self, length: int) -> None:
        """The driver returns what it was given; ``ContractViolation`` where it never had so much."""
        if not 0 <= length <= self.bytes_given:
            raise ContractViolation(f"{length} bytes of room returned, {self.bytes_given} were given out")
        self.bytes_given -= length
        self.bytes_used -= length
