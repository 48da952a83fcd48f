"""Golden age: what enters its set, with what weight, and when it ends; a whole night on stand-in services."""

import json
import sqlite3

import pytest

from konomi.night.draws import Turn
from konomi.night.records.state import Selection
from konomi.night.systems import golden
from konomi.night.systems.golden import GoldenSettings
from konomi.v1 import rater_pb2


def turn(pool=10, **settings):
    return Turn(1, 1, 1, ["a"], GoldenSettings(**settings), 6.0, pool=pool)


def manifest_of(home, unit):
    return json.loads((home / "artifacts" / unit["selection"]["manifest"]).read_text())["items"]


def grade(home, sources):
    """Grades the reddest images of a home UR and lets them come from some sources, in turn; returns digest → source."""
    images = sqlite3.connect(home / "databases" / "stand-in-images.sqlite")
    labels = sqlite3.connect(home / "databases" / "stand-in-labels.sqlite")
    found = {}
    with images, labels:
        rows = images.execute("SELECT k, v FROM t ORDER BY k").fetchall()[: 3 * len(sources)]
        for number, (digest, about) in enumerate(rows):
            source = sources[number % len(sources)]
            found[digest] = source
            images.execute(
                "UPDATE t SET v = ? WHERE k = ?", (json.dumps(json.loads(about) | {"source": source}), digest)
            )
            labels.execute("INSERT INTO t VALUES (?, ?)", (digest, json.dumps(rater_pb2.GRADE_UR)))
    return found


def test_only_ur_of_every_source_is_asked_for_with_its_weight():
    asked = golden.selection(turn(consented_weight=0.4, scraped_weight=0.1))
    assert asked["policy"] == "golden"
    assert asked["count"] == 10
    assert asked["sources"] == ["self", "consented", "scraped", "imported"]
    assert asked["source_weights"] == {"self": 1.0, "imported": 1.0, "consented": 0.4, "scraped": 0.1, "certified": 0.5}
    assert golden.SYSTEM.grades == ("UR",)


def test_nothing_is_generated_for_the_pool():
    assert golden.draws(turn()) == []
    assert golden.pool_size(GoldenSettings()) == 0


HUNDRED = Selection(n=100)


@pytest.mark.parametrize(
    ("n", "earlier", "name"),
    [(7, [], "too_few_ur"), (8, [], None), (101, [HUNDRED], "golden_flat"), (102, [HUNDRED], None)],
)
def test_it_ends_on_too_few_or_on_a_set_that_hardly_grew(n, earlier, name):
    end = golden.verdict(turn(), Selection(n=n), earlier)
    assert (end.name if end else None) == name


def test_a_night_trains_on_ur_alone_weighs_their_sources_and_ends_when_they_do_not_grow(bench):
    home = bench.home("golden")
    code, _, err = bench.konomi(home, *bench.start(home, "--units", "1"))
    assert code == 0, err
    graded = grade(home, [rater_pb2.SOURCE_SELF, rater_pb2.SOURCE_CONSENTED, rater_pb2.SOURCE_SCRAPED])
    start = ["golden" if word == "converge" else word for word in bench.start(home)]
    code, result, err = bench.konomi(home, *start)
    assert code == 0, err
    assert (result["state"], result["reason"]["name"]) == ("finished", "golden_flat")
    state = json.loads((home / "nights" / result["night"] / "night.json").read_text())
    trained = next(unit for unit in state["units"] if "selection" in unit)
    assert trained["unit"] == 2
    assert "decision" in trained
    items = manifest_of(home, trained)
    chosen = {item["digest"]: item["weight"] for item in items if item["role"] == "selected"}
    weights = {rater_pb2.SOURCE_SELF: 1.0, rater_pb2.SOURCE_CONSENTED: 0.5, rater_pb2.SOURCE_SCRAPED: 0.25}
    assert chosen == {digest: weights[source] for digest, source in graded.items()}
    assert [item["weight"] for item in items if item["role"] == "base"] == [1.0] * 3
    assert trained["selection"]["nats"] == 0, "the owner's grades spend none of the rater's pressure"
    assert trained["selection"]["sources"] == {"consented": 3, "scraped": 3, "self": 3}
    assert not [step for step in state["steps"] if "generate" in step["name"]]
