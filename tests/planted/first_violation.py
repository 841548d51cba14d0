"""Simulate seeds until one breaks a promise: ``python -m tests.planted.first_violation SEEDS``.

Ends with 1 and a last line of the seed and what was said, where one did.
"""

from __future__ import annotations

import sys

from tests.sim.world import simulate


def main() -> int:
    for seed in range(int(sys.argv[1])):
        try:
            simulate(seed)
        except (Exception, RecursionError) as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"{seed} {said[:300]}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
