"""The core has no sockets; neither have its tests. And no test of it depends on how fast it is."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def no_sockets(socket_disabled: None) -> None:
    """``pytest-socket`` refuses to make one."""
