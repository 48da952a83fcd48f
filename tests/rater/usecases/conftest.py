"""A shelf of images for the tests of what is collected."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rater.usecases.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path)
    made.taste()
    yield made
    made.engine.dispose()
