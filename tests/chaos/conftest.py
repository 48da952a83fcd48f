"""What the chaos tests share: a voice for their figures, which no assertion can give."""

import os
from collections.abc import Callable

import pytest


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says a line at once, with the machine's load, so that a run that is broken off has told how far it came."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None:
            reporter.write_line(f"{line} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")

    return say
