"""The core has no sockets; neither have its tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_sockets(socket_disabled: None) -> None:
    """``pytest-socket`` refuses to make one."""
