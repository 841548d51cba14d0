"""What is read in a soak, and who publishes new versions of it meanwhile.

Files are pieces of one block of noise, so that any byte of any version is known without being kept.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import define, field

from seekfs_io import publisher
from seekfs_io.config import CacheConfig, Config, S3Config
from seekfs_io.objects import open_store
from tests.support.dataset import MIB, some_bytes

NS: Final = "soak"
PUBLISH_SECONDS: Final = (1.0, 6.0)
CHANGED_MAX: Final = 3
KEPT_VERSIONS: Final = 8
"""Of which readers ask by number: so many of the latest."""

BLOCK: Final = some_bytes(32 * MIB, 11)

PAGE_MIB: Final = {"small": 1 / 16, "middle": 1, "large": 8}
"""Page sizes, by the first word of a path."""

FIRST_WHOLE: Final = len(PAGE_MIB)
"""The first version that has all paths: files of one page size are published together."""

LENGTHS: Final[Mapping[str, int]] = {
    **{f"small-{number}": 700_000 + 123_457 * number for number in range(10)},
    **{f"middle-{number}": 3 * MIB + 54_321 * number for number in range(5)},
    **{f"large-{number}": 17 * MIB + number for number in range(2)},
}


@define(eq=False)
class World:
    """A namespace whose versions are all known. A ``Library``; its one publisher is ``publish_one``."""

    s3: S3Config
    directory: Path
    seed: int
    published: int = 0
    _generations: dict[int, dict[str, int]] = field(factory=lambda: {0: {}})
    """By version: which content each path has."""
    _lock: threading.Lock = field(factory=threading.Lock)
    _chance: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def content(self, path: str, version: int) -> memoryview:
        with self._lock:
            generation = self._generations[version][path]
        start = random.Random(f"{path} {generation}").randrange(len(BLOCK) - LENGTHS[path])
        return memoryview(BLOCK)[start : start + LENGTHS[path]]

    def some_version(self, chance: random.Random) -> int:
        """One that is or was current, and not long ago."""
        return chance.randint(max(FIRST_WHOLE, self.published - KEPT_VERSIONS), self.published)

    def publish_first(self) -> None:
        """All versions up to ``FIRST_WHOLE``."""
        for kind in PAGE_MIB:
            self._publish([path for path in LENGTHS if path.startswith(kind)])

    def publish_one(self) -> None:
        """A version in which some files have other bytes."""
        kind = self._chance.choices(tuple(PAGE_MIB), (6, 3, 1))[0]
        paths = [path for path in LENGTHS if path.startswith(kind)]
        self._publish(self._chance.sample(paths, min(len(paths), self._chance.randint(1, CHANGED_MAX))))

    def _publish(self, paths: list[str]) -> None:
        version = self.published + 1
        files = {**self._generations[self.published], **dict.fromkeys(paths, version)}
        with self._lock:
            # Known before it is there: readers may be faster than this thread.
            self._generations[version] = files
        for path in paths:
            (self.directory / path).write_bytes(self.content(path, version))
        page_mib = PAGE_MIB[paths[0].partition("-")[0]]
        config = Config(s3=self.s3, cache=CacheConfig(slab_size_mib=page_mib, inflight_mib=64))
        store = open_store(self.s3)
        try:
            result = publisher.publish(store, config, NS, [self.directory / path for path in paths])
        finally:
            store.close()
        assert (result.version, result.new, result.changed) == (version, True, len(paths)), result
        self.published = version

    def publish_until(self, stop: threading.Event) -> None:
        while not stop.wait(self._chance.uniform(*PUBLISH_SECONDS)):
            self.publish_one()
