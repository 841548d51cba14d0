"""Making versions of a namespace, and looking at them: what the command line does.

Every function takes an ``ObjectStore``, the configuration and (where it takes long) a
``Progress``; it charges its GETs against the budget, makes failed requests again as ``[s3]`` says,
and raises ``SeekfsError``. Nothing in the bucket is ever deleted. What is interrupted aborts its
uploads and publishes nothing; a version that was being created already is finished first.

| function | does |
|---|---|
| ``publish``  | uploads files by content, publishes a version that has them |
| ``put``      | uploads files under ``files/``, publishes nothing |
| ``generate`` | publishes a version of objects that are in the bucket already |
| ``remove``   | publishes a version without some files |
| ``rollback`` | publishes an old version's content as a new one |
| ``load``     | one version, checked |
| ``diff``     | what one version has that another has not |
| ``verify``   | reads a version back, past all caches, and says what differs |
"""

from __future__ import annotations

from seekfs_core.revisions import Diff, diff
from seekfs_core.selection import LeftOut
from seekfs_io.publishing.changing import remove, rollback
from seekfs_io.publishing.contents import publish
from seekfs_io.publishing.driving import PublishResult
from seekfs_io.publishing.generating import GenerateResult, generate
from seekfs_io.publishing.inputs import FileChanged, Input, InputError
from seekfs_io.publishing.inspecting import Difference, Verified, load, verify
from seekfs_io.publishing.placing import PutResult, put
from seekfs_io.publishing.progress import SILENT, Progress

__all__ = [
    "SILENT",
    "Diff",
    "Difference",
    "FileChanged",
    "GenerateResult",
    "Input",
    "InputError",
    "LeftOut",
    "Progress",
    "PublishResult",
    "PutResult",
    "Verified",
    "diff",
    "generate",
    "load",
    "publish",
    "put",
    "remove",
    "rollback",
    "verify",
]
