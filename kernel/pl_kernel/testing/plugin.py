"""pytest plugin of pl-kernel: registers the markers that pl's own tests and those of plugins use."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, so that ``--strict-markers`` accepts them in any package."""
    config.addinivalue_line("markers", "casa: imports CASA (in a worker process)")
    config.addinivalue_line("markers", "slow: takes more than 20 seconds")
    config.addinivalue_line("markers", "browser: drives headless Chromium")
