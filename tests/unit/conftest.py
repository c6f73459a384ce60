"""What holds for every unit test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.randomness import untouched_random_state

settings.register_profile("unit", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _global_random_state_untouched() -> Iterator[None]:
    with untouched_random_state():
        yield
