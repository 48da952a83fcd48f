"""The simulated person's hidden utility, tiers and spoken grades."""

import json

import pytest

from konomi.errors import InvalidArgument
from konomi_starter.data.captions import ATTRIBUTES, TASTE_ATTRIBUTES
from konomi_starter.persons.utility import Person, fix_tiers, random_person, read_person, spoken_grade

RECORD = {
    "style": "ink",
    "hair_length": "long",
    "hair_colour": "pink",
    "background": "blue",
    "glasses": "none",
    "beard": "none",
    "shirt": "none",
}


def test_utility_adds_the_weights_of_what_is_seen():
    person = Person("p", {"hair_colour=pink": 1.5, "glasses=none": -0.5, "beard=beard": 9.0}, 0.0)
    assert person.utility(RECORD) == 1.0


def test_tiers_follow_the_quantiles_of_the_base_images():
    tiers = fix_tiers(range(1000))
    counts = [sum(tiers.grade(u) == grade for u in range(1000)) for grade in range(1, 6)]
    assert counts == [300, 300, 220, 120, 60]


def test_tiers_need_enough_images():
    with pytest.raises(InvalidArgument, match="at least 20"):
        fix_tiers([1.0] * 19)


def test_a_person_without_noise_says_the_true_grade_and_noise_is_reproducible():
    tiers = fix_tiers(range(100))
    quiet, loud = Person("q", {}, 0.0), Person("l", {}, 0.8)
    digests = [f"{i:064x}" for i in range(200)]
    assert all(spoken_grade(quiet, tiers, 50, d, 1) == tiers.grade(50) for d in digests)
    spoken = [spoken_grade(loud, tiers, 50, d, 1) for d in digests]
    assert spoken == [spoken_grade(loud, tiers, 50, d, 1) for d in digests]
    assert len(set(spoken)) > 1
    assert spoken != [spoken_grade(loud, tiers, 50, d, 2) for d in digests]


def test_random_person_weighs_every_value_and_no_other():
    person = random_person(3)
    assert set(person.weights) == {f"{n}={v}" for n in TASTE_ATTRIBUTES for v in ATTRIBUTES[n]}
    assert person == random_person(3)
    assert person != random_person(4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "JSON"),
        ("[]", "weights"),
        ('{"weights": {"hair_colour=mauve": 1}}', "hair_colour=mauve"),
        ('{"weights": {"hair_colour=pink": "much"}}', "finite number"),
        ('{"weights": {"hair_colour=pink": NaN}}', "finite number"),
        ('{"weights": {}, "noise": 2}', "from 0 to 1"),
        ('{"weights": {}, "nose": 1}', "nose"),
    ],
)
def test_a_wrong_person_file_is_explained(tmp_path, content, message):
    path = tmp_path / "person.json"
    path.write_text(content)
    with pytest.raises(InvalidArgument, match=message):
        read_person(path)


def test_a_person_file_round_trips(tmp_path):
    person = random_person(5)
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"name": person.name, "weights": person.weights, "noise": person.noise}))
    assert read_person(path) == person
