"""The figures of a daemon's ``/metrics``."""

from __future__ import annotations

import re
from typing import Final, Protocol

import requests

_SAMPLE: Final = re.compile(r"^(seekfs_[a-z0-9_]+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)


class Serving(Protocol):
    """A daemon that answers at ``url``."""

    @property
    def url(self) -> str: ...


def figures(daemon: Serving) -> dict[str, float]:
    """Every sample, by its name and labels as they are written: labels are in the order of their names."""
    text = requests.get(f"{daemon.url}/metrics", timeout=30).text
    return {name: float(value) for name, value in _SAMPLE.findall(text)}


def metric(daemon: Serving, name: str, **labels: str) -> float:
    """The value of the sample ``name`` with exactly these labels; AssertionError if there is none."""
    written = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    sample = f"{name}{{{written}}}" if labels else name
    found = figures(daemon)
    assert sample in found, f"no {sample} in {found}"
    return found[sample]
