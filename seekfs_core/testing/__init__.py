"""What programs that embed the core can test themselves with: time and chance of their own, and recorded
traces.

Nothing here reads a clock, sleeps, or draws entropy.

| module | has |
|---|---|
| ``clock``  | virtual time: callbacks at their times, in an order that is the same every time |
| ``chance`` | draws from a seeded generator that are the same in every version of Python |
| ``replaying`` | ``replay(path)``: a recorded trace, fed to fresh machines |
"""

from __future__ import annotations

from seekfs_core.testing.chance import Chance as Chance
from seekfs_core.testing.clock import Timer as Timer
from seekfs_core.testing.clock import VirtualClock as VirtualClock
from seekfs_core.testing.replaying import replay as replay
