"""Over the wire: what other people like is learnt, used where it helps, dropped where it does not, and removed."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load

from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi.v1 import rater_pb2 as pb
from konomi_rater.preference.population import crowd
from konomi_rater.preference.population.file import Population, to_bytes
from tests.rater.conftest import grades_of

CONSENT = "signed on 2026-11-20"


@pytest.fixture
def own_models(rater):
    """The home's folder of models, made its own: populations are kept in it."""
    shared = (rater.home / "models").resolve()
    (rater.home / "models").unlink()
    (rater.home / "models").mkdir()
    (rater.home / "models" / "starter").symlink_to(shared / "starter")
    return rater.home / "models"


def people(library, count: int = 5, noise: float = 0.1, seed: int = 0) -> list[pb.PersonRatings]:
    """People who like red too, each on a scale of their own."""
    rng, liked = np.random.default_rng(seed), np.array([library.utility[digest] for digest in library.digests])
    heard = []
    for number in range(count):
        seen = rng.choice(len(liked), 60, replace=False)
        values = (liked[seen] + noise * rng.standard_normal(60)) * (number + 1) + number
        heard.append(pb.PersonRatings(images=seen.tolist(), values=values.tolist()))
    return heard


def request_of(library, name: str = "friends", **fields) -> pb.FitPopulationRequest:
    groups = fields.pop("groups", [pb.RatingGroup(kind="ratings", consent=CONSENT, people=people(library))])
    asked = {"taste": library.taste, "digests": library.digests, "request_id": str(uuid.uuid4()), **fields}
    return pb.FitPopulationRequest(name=f"populations/{name}", groups=groups, **asked)


def listed(rater) -> list[pb.Population]:
    return list(rater.call("ListPopulations", pb.ListPopulationsRequest()).populations)


def remove(rater, name: str = "friends") -> pb.Population:
    request = pb.RemovePopulationRequest(name=f"populations/{name}", request_id=str(uuid.uuid4()))
    return rater.call("RemovePopulation", request)


def revoke(rater, library, digests: list[str]) -> None:
    request = pb.RevokeImagesRequest(taste=library.taste, digests=digests, request_id=str(uuid.uuid4()))
    rater.call("RevokeImages", request)


def test_what_others_like_is_learnt_used_and_told_with_both_figures(rater, library, own_models):
    group = pb.RatingGroup(kind="ratings", consent=CONSENT, people=people(library, count=12))
    made = rater.call("FitPopulation", request_of(library, groups=[group])).population
    assert (made.rater_count, made.rating_count, made.embedder) == (12, 720, "starter")
    assert 60 <= made.image_count <= 120 and made.srcc.low < made.srcc.value < made.srcc.high
    assert [(s.kind, s.rater_count, s.consent) for s in made.sources] == [("ratings", 12, CONSENT)]
    assert listed(rater) == [made]
    rater.label(library.taste, grades_of(library, library.digests[:20]))
    (use,) = rater.fit(library.taste).populations
    assert (use.name, use.digest, use.used) == (made.name, made.digest, True)
    assert use.srcc > use.srcc_without and use.nats > 0.5
    assert use.gain.value == pytest.approx(use.srcc - use.srcc_without) and use.gain.n == 20


def test_a_prior_that_does_not_help_is_dropped_and_changes_nothing(rater, library, own_models):
    rater.label(library.taste, grades_of(library, library.digests[:40]))
    plain = rater.fit(library.taste)
    (own_models / "population").mkdir()
    weights = np.random.default_rng(0).standard_normal((32, 1))
    (own_models / "population" / "strangers.safetensors").write_bytes(to_bytes(Population(weights), "starter"))
    version = rater.fit(library.taste)
    (use,) = version.populations
    assert not use.used and version.artifact_digest == plain.artifact_digest
    assert not plain.populations


def test_a_population_outlives_nothing_but_itself(rater, library, own_models):
    rater.call("FitPopulation", request_of(library))
    rater.label(library.taste, grades_of(library, library.digests[:20]))
    before = rater.fit(library.taste)
    request = pb.ScoreImagesRequest(taste=library.taste, images=[pb.ImageInput(digest=library.digests[50])])
    score = rater.call("ScoreImages", request).results[0].score.utility
    assert remove(rater).digest == before.populations[0].digest and listed(rater) == []
    again = rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=before.name))
    assert again.populations == before.populations
    assert rater.call("ScoreImages", request).results[0].score.utility == score
    assert not rater.fit(library.taste).populations


def test_consented_tastes_are_heard_and_never_lean_on_themselves(rater, library, own_models):
    names = [rater.taste(name) for name in ("mika", "aoi", "ren")]
    for at, name in enumerate(names):
        digests = library.digests[at * 20 : at * 20 + 60]
        rater.add(name, [pb.Image(digest=d, source=pb.SOURCE_SELF, prompt=d, seed=1) for d in digests])
        rater.label(name, grades_of(library, digests))
    tastes = [pb.ConsentedTaste(taste=name, consent=f"{name} said yes") for name in names]
    made = rater.call("FitPopulation", request_of(library, groups=[], digests=[], tastes=tastes)).population
    assert made.rater_count == 3 and made.sources[0].consent == "tastes/mika said yes"
    rater.label(library.taste, grades_of(library, library.digests[:20]))
    assert [use.name for use in rater.fit(library.taste).populations] == ["populations/friends"]
    assert not rater.fit("tastes/mika").populations


def test_no_rating_and_no_name_is_kept(rater, library, own_models):
    rater.label(library.taste, grades_of(library, library.digests[:20]))
    rater.call("FitPopulation", request_of(library))
    data = (own_models / "population" / "friends.safetensors").read_bytes()
    assert {name: tensor.shape for name, tensor in load(data).items()} == {"weights": (32, 1)}
    header = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["konomi"])
    assert set(header) == {"raters", "ratings", "images", "created", "sources", "members", "srcc", "request"}
    assert not [digest for digest in library.digests if digest.encode() in data]


def test_images_that_are_not_at_hand_are_counted_and_named(rater, library, own_models):
    digests = [*library.digests, "0" * 64, "1" * 64]
    heard = people(library)
    heard[0].images.extend([120, 121])
    heard[0].values.extend([1.0, 2.0])
    silent = pb.PersonRatings(images=[0, 1], values=[1.0, 2.0])
    group = pb.RatingGroup(kind="ratings", consent=CONSENT, people=[*heard, silent])
    answer = rater.call("FitPopulation", request_of(library, digests=digests, groups=[group]))
    assert (answer.absent_count, list(answer.absent), answer.unheard_count) == (2, [120, 121], 1)
    assert answer.population.rating_count == 300


def test_the_same_request_is_answered_once(rater, library, own_models):
    request = request_of(library)
    assert rater.call("FitPopulation", request) == rater.call("FitPopulation", request)


def test_a_request_whose_answer_was_lost_behind_its_file_is_answered_with_that_file(
    rater, library, own_models, monkeypatch
):
    """The file is durable before the answer is: whoever asks again hears of it, and nobody else takes its name."""
    request = request_of(library)
    monkeypatch.setenv("KONOMI_FAILPOINT", "population.after_file=eio")
    with pytest.raises(KonomiError):
        rater.call("FitPopulation", request)
    monkeypatch.delenv("KONOMI_FAILPOINT")
    (left,) = listed(rater)
    with pytest.raises(AlreadyExists):
        rater.call("FitPopulation", request_of(library))
    other = pb.FitPopulationRequest.FromString(request.SerializeToString())
    other.groups[0].consent = "another"
    with pytest.raises(AlreadyExists):
        rater.call("FitPopulation", other)
    answer = rater.call("FitPopulation", request)
    assert answer.population == left and rater.call("FitPopulation", request) == answer
    revoke(rater, library, library.digests[:1])
    assert listed(rater)[0].revoked_image_count == 1


def test_what_was_revoked_since_is_counted_until_it_is_learnt_anew(rater, library, own_models):
    made = rater.call("FitPopulation", request_of(library)).population
    assert (made.revoked_image_count, made.revoked_rating_count) == (0, 0)
    gone = library.digests[:30]
    rated = [place for person in people(library) for place in person.images if place < 30]
    revoke(rater, library, gone)
    (told,) = listed(rater)
    assert told.digest == made.digest
    assert (told.revoked_image_count, told.revoked_rating_count) == (len(set(rated)), len(rated))
    remove(rater)
    again = rater.call("FitPopulation", request_of(library)).population
    assert again.image_count == made.image_count - len(set(rated))
    assert [one.revoked_image_count for one in listed(rater)] == [0]


def test_a_restored_taste_still_says_what_it_stood_on(rater, library, own_models):
    rater.call("FitPopulation", request_of(library))
    rater.label(library.taste, grades_of(library, library.digests[:20]))
    before = rater.fit(library.taste)
    rows = rater.stream("ExportTaste", pb.ExportTasteRequest(taste=library.taste))[0].artifact.digest
    rater.call(
        "ImportTaste", pb.ImportTasteRequest(rows_digest=rows, taste="tastes/copy", request_id=str(uuid.uuid4()))
    )
    copy = rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name="tastes/copy/raterVersions/active"))
    assert copy.populations == before.populations


def _few(library) -> list[pb.RatingGroup]:
    return [pb.RatingGroup(kind="ratings", consent=CONSENT, people=people(library, count=2))]


def _unpaired(library, images: list[int]) -> list[pb.RatingGroup]:
    person = pb.PersonRatings(images=images, values=[1.0, 2.0])
    return [pb.RatingGroup(kind="ratings", consent=CONSENT, people=[person])]


WRONG = {
    "consent": (
        lambda library: {"groups": [pb.RatingGroup(kind="ratings", people=people(library))]},
        InvalidArgument,
        "CONSENT_MISSING",
        "what the consent to use these ratings says",
    ),
    "few": (
        lambda library: {"groups": _few(library)},
        FailedPrecondition,
        "TOO_FEW_RATERS",
        "at least 3 people .* found 2 of 2",
    ),
    "images": (
        lambda library: {"digests": library.digests[:12] + ["a" * 60 + f"{at:04d}" for at in range(108)]},
        FailedPrecondition,
        "TOO_FEW_",
        "108 images not at hand|108 that are not at hand",
    ),
    "itself": (
        lambda library: {"tastes": [pb.ConsentedTaste(taste=library.taste, consent="yes")]},
        InvalidArgument,
        "POPULATION_OF_ITSELF",
        "tastes of others",
    ),
    "unpaired": (
        lambda library: {"groups": _unpaired(library, [1])},
        InvalidArgument,
        "RATINGS_UNPAIRED",
        "2 values of 1 images",
    ),
    "beyond": (
        lambda library: {"groups": _unpaired(library, [1, 120])},
        InvalidArgument,
        "RATINGS_UNPAIRED",
        "from 0 to 119, found 120",
    ),
    "taste": (
        lambda library: {"tastes": [pb.ConsentedTaste(taste="tastes/nobody", consent="yes")]},
        NotFound,
        "TASTE_NOT_FOUND",
        "tastes/nobody",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_learnt_from_is_refused(rater, library, own_models, case):
    fields, kind, reason, words = WRONG[case]
    with pytest.raises(kind, match=words) as caught:
        rater.call("FitPopulation", request_of(library, **fields(library)))
    assert caught.value.reason.startswith(reason)
    assert listed(rater) == []


def test_a_name_is_taken_once_well_formed_and_known(rater, library, own_models):
    rater.call("FitPopulation", request_of(library))
    with pytest.raises(AlreadyExists, match="remove it first") as caught:
        rater.call("FitPopulation", request_of(library))
    assert caught.value.reason == "POPULATION_EXISTS"
    with pytest.raises(InvalidArgument, match="populations/"):
        rater.call("FitPopulation", request_of(library, name="../owner"))
    with pytest.raises(NotFound, match="populations/others") as missing:
        remove(rater, "others")
    assert missing.value.reason == "POPULATION_NOT_FOUND"


def test_of_two_that_are_learnt_at_once_under_one_name_the_first_stays(rater, library, own_models, monkeypatch):
    both, learn = threading.Barrier(2), crowd.fit_crowd

    def at_once(*words, **more):
        both.wait(20)
        return learn(*words, **more)

    monkeypatch.setattr(crowd, "fit_crowd", at_once)

    def ask(count: int) -> pb.Population | KonomiError:
        group = pb.RatingGroup(kind="ratings", consent=CONSENT, people=people(library, count=count))
        try:
            return rater.call("FitPopulation", request_of(library, groups=[group])).population
        except AlreadyExists as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(ask, (4, 7)))
    made = [one for one in said if isinstance(one, pb.Population)]
    assert len(made) == 1 and listed(rater) == made


def test_pages_hold_every_population_by_name(rater, library, own_models):
    made = rater.call("FitPopulation", request_of(library, name="mika")).population
    folder = own_models / "population"
    (folder / "mika-2.safetensors").write_bytes((folder / "mika.safetensors").read_bytes())
    names, token = [], ""
    while not names or token:
        page = rater.call("ListPopulations", pb.ListPopulationsRequest(page_size=1, page_token=token))
        names, token = [*names, *(one.name for one in page.populations)], page.next_page_token
    assert names == [made.name, f"{made.name}-2"]


def test_a_broken_file_is_named_and_can_be_removed(rater, library, own_models):
    rater.label(library.taste, grades_of(library, library.digests[:20]))
    (own_models / "population").mkdir()
    (own_models / "population" / "friends.safetensors").write_bytes(b"not a tensor")
    failures: list[KonomiError] = []
    for call in (lambda: rater.fit(library.taste), lambda: listed(rater)):
        with pytest.raises(FailedPrecondition, match=r"models/population/friends\.safetensors") as caught:
            call()
        failures.append(caught.value)
    assert {failure.reason for failure in failures} == {"POPULATION_UNREADABLE"}
    assert remove(rater).name == "populations/friends"
    assert rater.fit(library.taste).label_count == 20


def test_a_person_is_heard_once_and_never_stands_on_the_own_grades(rater, library, own_models):
    """Copies of one person's grades are no crowd, whether a uid tells it or only what they say."""
    rater.label(library.taste, grades_of(library, library.digests[:20]))
    uid = rater.call("GetTaste", pb.GetTasteRequest(name=library.taste)).uid
    (alone,) = people(library, count=1)
    again = pb.PersonRatings(images=list(alone.images)[::-1], values=list(alone.values)[::-1])
    group = pb.RatingGroup(kind="bundle", consent=CONSENT, people=[alone], members=[uid])
    unsaid = [pb.RatingGroup(kind="bundle", consent=CONSENT, people=[one]) for one in (alone, again)]
    for groups in ([group, group, group], unsaid):
        with pytest.raises(InvalidArgument, match="a person is heard once") as caught:
            rater.call("FitPopulation", request_of(library, groups=groups))
        assert caught.value.reason == "PERSON_TWICE"
    crowd = [group, pb.RatingGroup(kind="ratings", consent=CONSENT, people=people(library, count=5, seed=1))]
    made = rater.call("FitPopulation", request_of(library, groups=crowd)).population
    assert made.rater_count == 6 and not rater.fit(library.taste).populations
