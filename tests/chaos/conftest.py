"""What the chaos tests share: a voice for their figures, which no assertion can give."""

import os
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Says a line in pytest's summary at the end of the run, with the machine's load."""
    lines: list[str] = []
    yield lines.append
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    for line in lines if reporter else ():
        reporter.write_line(f"{line} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
