"""The archive follows the database: images come, images go, and its file is only a cache."""

import numpy as np
import pytest
from sqlalchemy import text

from konomi_chassis.storage.database import open_database, reading
from konomi_rater.measures.novelty import NeighbourIndex
from konomi_rater.storage import image_records, tastes
from konomi_rater.storage.embeddings import EmbeddingMatrix
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.schema import MIGRATIONS
from konomi_rater.usecases import novelty_index
from konomi_rater.usecases.novelty_index import Archive, GradedIndex


def clustered(count: int, seed: int = 0, dimensions: int = 32) -> np.ndarray:
    """Unit rows of 60 clusters that overlap, as embeddings do."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((60, dimensions))
    rows = centres[rng.integers(0, 60, count)] + 0.8 * rng.standard_normal((count, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def taste(tmp_path):
    """A database with a taste of 300 images, and a way to add and delete more."""
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS)
    with engine.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
    made = Taste(engine)
    made.add(range(300))
    yield made
    engine.dispose()


class Taste:
    def __init__(self, engine):
        self.engine, self.memory = engine, EmbeddingMatrix("t", "starter")

    def add(self, numbers):
        rows = {f"{n:064x}": clustered(1, seed=n)[0] for n in numbers}
        with self.engine.begin() as connection:
            image_records.remember_embeddings(connection, "starter", rows)
            for digest in rows:
                image_records.add(connection, "t", ImageFacts(digest, 1), (8, 8), 0.0)

    def delete(self, numbers):
        with self.engine.begin() as connection:
            for number in numbers:
                connection.execute(text("DELETE FROM images WHERE digest = :digest"), {"digest": f"{number:064x}"})

    def view(self):
        with reading(self.engine) as connection:
            return self.memory.view(connection)


def nearest(archive, view, k=5):
    return archive.at(view).search(view.embeddings, k)[1]


def truth(view, k=5):
    return np.argsort(-(view.embeddings @ view.embeddings.T), axis=1, kind="stable")[:, :k]


def test_what_is_deleted_is_forgotten_and_what_comes_is_found(taste):
    archive = Archive()
    before = taste.view()
    assert np.array_equal(nearest(archive, before), truth(before))
    taste.delete([0, 5, 299])
    taste.add([400, 401])
    after = taste.view()
    assert len(after) == 299 and after.generation == before.generation + 1
    assert after.at(f"{5:064x}") is None and after.at(f"{6:064x}") == 4
    assert np.array_equal(nearest(archive, after), truth(after))
    own = np.arange(len(after))
    expected = np.sort(1 - after.embeddings @ after.embeddings.T, axis=1)[:, 1:16].mean(axis=1)
    assert archive.at(after).distance(after.embeddings, own) == pytest.approx(expected, abs=1e-5)
    assert len(before) == 300 and before.digests[5] == f"{5:064x}"


def test_the_newest_images_are_forgotten_too(taste):
    archive = Archive()
    archive.at(taste.view())
    taste.delete([298, 299])
    after = taste.view()
    expected = np.sort(1 - after.embeddings @ after.embeddings.T, axis=1)[:, 1:16].mean(axis=1)
    found = archive.at(after).distance(after.embeddings, np.arange(len(after)))
    assert found == pytest.approx(expected, abs=1e-5)


def test_vectors_go_with_the_last_taste_that_knows_the_image(taste):
    with taste.engine.begin() as connection:
        tastes.create(connection, "other", "", "starter", "starter", 0.0)
        image_records.add(connection, "other", ImageFacts(f"{1:064x}", 1), (8, 8), 0.0)
        connection.execute(text("DELETE FROM images WHERE taste = 't' AND row <= 3"))
        kept = image_records.read_embeddings(connection, "starter", [f"{n:064x}" for n in range(4)])
    assert sorted(kept) == [f"{1:064x}", f"{3:064x}"]


def test_an_empty_taste_has_no_neighbours(tmp_path):
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS)
    with reading(engine) as connection:
        view = EmbeddingMatrix("nobody", "starter").view(connection)
    found = Archive().at(view)
    assert found.search(clustered(2), 3)[1].shape == (2, 0)
    assert found.distance(clustered(2), np.array([-1, -1])).tolist() == [0, 0]
    engine.dispose()


def test_the_inverted_file_finds_nearly_all_and_forgets(tmp_path):
    rows, queries = clustered(6000), clustered(200, seed=1)
    exact, rough = NeighbourIndex(32), NeighbourIndex(32, exact_rows=2000)
    for index in (exact, rough):
        index.add(np.arange(6000) * 7, rows)
    assert exact.exact and not rough.exact
    found, true = rough.search(queries, 10)[1], exact.search(queries, 10)[1]
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, true, strict=True)]) >= 0.95
    gone = np.unique(true[:, 0])
    assert rough.remove(gone) == len(gone) and len(rough) == 6000 - len(gone)
    assert not np.isin(rough.search(queries, 10)[1], gone).any()
    assert sorted([*rough.ids(), *gone]) == (np.arange(6000) * 7).tolist()


@pytest.mark.parametrize("harm", ["lost", "cut", "flipped", "facts", "facts lost", "other dimensions"])
def test_a_lost_or_damaged_index_file_is_only_a_cache_miss(tmp_path, harm):
    path = tmp_path / "cache" / "index.faiss"
    rows = clustered(3000)
    index = NeighbourIndex(32, exact_rows=1000)
    index.add(np.arange(3000), rows)
    index.save(path)
    loaded = NeighbourIndex.load(path, 32, 1000)
    assert np.array_equal(loaded.search(rows[:50], 5)[1], index.search(rows[:50], 5)[1])
    assert loaded.remove(np.array([3])) == 1
    data = path.read_bytes()
    if harm == "lost":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[:-1])
    elif harm == "flipped":
        path.write_bytes(data[:900] + bytes([data[900] ^ 64]) + data[901:])
    elif harm == "facts":
        path.with_suffix(".json").write_text("{")
    elif harm == "facts lost":
        path.with_suffix(".json").unlink()
    assert NeighbourIndex.load(path, 16 if harm == "other dimensions" else 32, 1000) is None


def test_the_archive_reads_its_file_and_catches_up(taste, tmp_path):
    path = tmp_path / "cache" / "t.faiss"
    first = Archive(exact_rows=100, file=path)
    first.at(taste.view())
    assert path.exists()
    taste.delete([7])
    taste.add([500])
    for damaged in (False, True):
        if damaged:
            path.write_bytes(path.read_bytes()[:-3])
        view = taste.view()
        found = nearest(Archive(exact_rows=100, file=path), view, 1)[:, 0]
        assert np.mean(found == np.arange(len(view))) > 0.99


@pytest.mark.parametrize("exact", [10_000, 60])
def test_the_index_of_graded_images_follows_what_is_graded_and_cleared(taste, monkeypatch, exact):
    monkeypatch.setattr(novelty_index, "EXACT_GRADED", exact)
    view, rng, index = taste.view(), np.random.default_rng(1), GradedIndex()
    graded = rng.permutation(300)[:120]
    for _ in range(6):
        cosines = np.sort(view.embeddings @ view.embeddings[graded].T, axis=1)[:, -5:]
        distances = index.distance(view, graded, view.embeddings, 5)
        assert distances == pytest.approx(1 - cosines.mean(axis=1), abs=1e-5 if exact > 300 else 0.2)
        cleared = rng.permutation(graded)[:15]
        graded = np.concatenate([np.setdiff1d(graded, cleared), rng.permutation(300)[:20]])
        graded = rng.permutation(np.unique(graded))
