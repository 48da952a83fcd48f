"""Vectors of images no taste knows: kept for the last ones asked for, and for none where the cache has no room."""

import numpy as np
import pytest

from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.registry import Embedders
from konomi_rater.storage.embeddings import view_of
from konomi_rater.usecases.vectors import Vectors

EMPTY = view_of([], np.zeros((0, 2), np.float32), [], np.zeros(0, np.int64))


@pytest.mark.parametrize(("room", "kept"), [(0, []), (1, ["c"]), (2, ["a", "c"]), (3, ["a", "b", "c"])])
def test_the_vectors_asked_for_last_are_kept(tmp_path, room, kept):
    vectors = Vectors(None, Embedders(tmp_path, Placement("cpu", 1, 1)), None, room)
    for digest in ("a", "b"):
        vectors._remember(("starter", digest), np.array([1.0, 0.0], np.float32))
    vectors._vector_at_hand("starter", EMPTY, "a")
    vectors._remember(("starter", "c"), np.array([0.0, 1.0], np.float32))
    assert [digest for digest in "abc" if vectors._vector_at_hand("starter", EMPTY, digest) is not None] == kept
