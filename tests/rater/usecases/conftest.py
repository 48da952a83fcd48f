"""A shelf of images for the tests of what is collected."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql import Rows
from tests.rater.usecases.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path, rows: Rows) -> Iterator[Shelf]:
    """On both engines."""
    made = Shelf(tmp_path, rows)
    made.taste()
    yield made
    made.engine.dispose()
