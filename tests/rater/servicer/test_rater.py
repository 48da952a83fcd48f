"""RaterService on a real socket: what it stores, what it answers, what it refuses and with which status."""

import math
import uuid

import grpc
import numpy as np
import pytest

from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi.v1 import rater_pb2 as pb
from tests.rater.conftest import grades_of, png

UNKNOWN = "0" * 64
"""A digest nobody stored."""


def image(digest: str, **fields) -> pb.Image:
    return pb.Image(**({"digest": digest, "source": pb.SOURCE_SELF, "unit": "base"} | fields))


def score(rater, inputs, **fields) -> pb.ScoreImagesResponse:
    return rater.call("ScoreImages", pb.ScoreImagesRequest(images=inputs, **fields))


def by_digest(digest: str) -> pb.ImageInput:
    return pb.ImageInput(digest=digest)


def test_a_taste_is_created_once_and_read_back(rater):
    request = pb.CreateTasteRequest(taste_id="mine", taste={"display_name": "Mine"}, request_id=str(uuid.uuid4()))
    made = rater.call("CreateTaste", request)
    assert rater.call("CreateTaste", request) == made
    assert (made.name, made.embedder, made.base_model, made.display_name) == (
        "tastes/mine",
        "starter",
        "starter",
        "Mine",
    )
    assert rater.call("GetTaste", pb.GetTasteRequest(name="tastes/mine")) == made
    with pytest.raises(AlreadyExists):
        rater.call("CreateTaste", pb.CreateTasteRequest(taste_id="mine"))
    rater.taste("other")
    page = rater.call("ListTastes", pb.ListTastesRequest(page_size=1))
    rest = rater.call("ListTastes", pb.ListTastesRequest(page_size=1, page_token=page.next_page_token))
    assert [t.name for t in (*page.tastes, *rest.tastes)] == ["tastes/mine", "tastes/other"]
    assert not rest.next_page_token


@pytest.mark.parametrize(
    ("embedder", "error"),
    [
        ("clip", InvalidArgument),
        ("open_clip:ViT-B-32/../../etc.safetensors", InvalidArgument),
        ("open_clip:No-Such/x.safetensors", InvalidArgument),
        ("open_clip:ViT-B-32/weights.pt", InvalidArgument),
        ("open_clip:ViT-B-32/missing.safetensors", FailedPrecondition),
        ("timm:resnet18/missing.safetensors", FailedPrecondition),
        ("timm:nothing/x.safetensors", InvalidArgument),
    ],
)
def test_an_embedder_that_cannot_be_is_refused(rater, embedder, error):
    with pytest.raises(error):
        rater.call("CreateTaste", pb.CreateTasteRequest(taste_id="t", taste={"embedder": embedder}))


def test_adding_reports_each_image_and_goes_on(rater):
    taste = rater.taste()
    good, text = rater.put(png((200, 10, 10))), rater.put(b"not an image", "text/plain")
    broken = rater.put(png((9, 9, 9), size=64)[:200])
    answers = rater.add(
        taste,
        [
            image(good),
            image(UNKNOWN),
            image(text),
            image(broken),
            image(broken),
            image("nonsense"),
            image(good, source=0),
            image(good, source=pb.SOURCE_CONSENTED),
            image(good, prompt="x" * 5000),
            image(good),
        ],
    )
    reasons = [answer.error.reason for answer in answers]
    assert reasons[:6] == [
        "",
        "ARTIFACT_NOT_FOUND",
        "IMAGE_TYPE",
        "IMAGE_UNREADABLE",
        "IMAGE_UNREADABLE",
        "DIGEST_INVALID",
    ]
    assert reasons[6:] == ["SOURCE_REQUIRED", "CONSENT_REQUIRED", "TEXT_TOO_LONG", ""]
    assert [a.already_known for a in answers] == [False] * 9 + [True]
    assert [a.error.code for a in answers[1:3]] == [
        grpc.StatusCode.NOT_FOUND.value[0],
        grpc.StatusCode.INVALID_ARGUMENT.value[0],
    ]
    listed = rater.call("ListImages", pb.ListImagesRequest(taste=taste))
    assert [i.digest for i in listed.images] == [good]
    assert (listed.images[0].width, listed.images[0].height) == (32, 32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_every_accepted_format_is_added(rater, kind):
    taste = rater.taste()
    (answer,) = rater.add(taste, [image(rater.put(png((1, 2, 200), kind=kind), f"image/{kind.lower()}"))])
    assert not answer.HasField("error")


def test_a_stream_without_a_taste_or_with_two_is_refused(rater):
    digest = rater.put(png((1, 2, 3)))
    with pytest.raises(InvalidArgument):
        rater.add("", [image(digest)])
    with pytest.raises(NotFound):
        rater.add("tastes/nobody", [image(digest)])
    first, second = rater.taste("a"), rater.taste("b")
    with pytest.raises(InvalidArgument):
        rater.stream("AddImages", iter([pb.AddImagesRequest(taste=t, image=image(digest)) for t in (first, second)]))


def test_an_embedding_does_not_depend_on_its_neighbours(rater):
    one, many = rater.taste("one"), rater.taste("many")
    digests = [rater.put(png((10 * i, 100, 50), seed=i)) for i in range(20)]
    rater.add(one, [image(digests[3])])
    rater.add(many, [image(d) for d in digests])
    other = [rater.put(png((10 * i, 90, 50), seed=50 + i)) for i in range(5)]
    rater.add(many, [image(d) for d in other])
    rater.add(one, [image(other[4])])

    def nearest(taste):
        query = pb.SearchImagesRequest(taste=taste, image=by_digest(digests[3]), count=1)
        return rater.call("SearchImages", query).hits[0]

    assert nearest(one).image.digest == nearest(many).image.digest == digests[3]
    assert nearest(one).similarity == nearest(many).similarity == pytest.approx(1, abs=1e-6)


def test_a_label_is_recorded_once_whatever_the_retries(rater, library):
    request_id = str(uuid.uuid4())
    first = rater.label(library.taste, {library.digests[0]: 5}, request_id)
    assert rater.label(library.taste, {library.digests[0]: 5}, request_id) == first
    with pytest.raises(AlreadyExists):
        rater.label(library.taste, {library.digests[0]: 4}, request_id)
    listed = rater.call("ListLabels", pb.ListLabelsRequest(taste=library.taste))
    assert list(listed.labels) == list(first.labels)
    assert (first.labels[0].sequence, first.labels[0].labeller) == (1, "owner")


def test_undo_brings_back_the_grade_before(rater, library):
    digest = library.digests[0]
    rater.label(library.taste, {digest: 2})
    second = rater.label(library.taste, {digest: 5}).labels[0]

    def grade():
        return rater.call("GetImage", pb.GetImageRequest(taste=library.taste, digest=digest)).grade

    def undo(name=""):
        return rater.call(
            "UndoLabel", pb.UndoLabelRequest(taste=library.taste, name=name, request_id=str(uuid.uuid4()))
        )

    assert grade() == 5
    entry = undo()
    assert (entry.undoes, entry.grade, entry.image_digest) == (second.name, 2, digest)
    assert grade() == 2
    with pytest.raises(FailedPrecondition):
        undo(second.name)
    with pytest.raises(InvalidArgument):
        undo(entry.name)
    with pytest.raises(NotFound):
        undo(f"{library.taste}/labels/99")
    undo()
    assert grade() == 0
    with pytest.raises(FailedPrecondition):
        undo()
    log = rater.call("ListLabels", pb.ListLabelsRequest(taste=library.taste)).labels
    assert [(label.sequence, label.undone) for label in log] == [(1, True), (2, True), (3, False), (4, False)]
    assert not rater.call("ListLabels", pb.ListLabelsRequest(taste=library.taste, in_force=True)).labels


def test_a_cleared_grade_no_longer_counts(rater, library):
    rater.label(library.taste, {library.digests[0]: 5, library.digests[1]: 3})
    rater.label(library.taste, {library.digests[0]: 0})
    assert rater.call("GetTaste", pb.GetTasteRequest(name=library.taste)).label_count == 1
    kept = rater.call("ListLabels", pb.ListLabelsRequest(taste=library.taste, in_force=True)).labels
    assert [label.image_digest for label in kept] == [library.digests[1]]


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ([], InvalidArgument),
        ([(UNKNOWN, 3)], NotFound),
        ([("x", 3)], InvalidArgument),
        ([(None, 6)], InvalidArgument),
        ([(None, -1)], InvalidArgument),
    ],
)
def test_wrong_labels_are_refused_and_nothing_is_written(rater, library, labels, error):
    mine = [pb.Label(image_digest=library.digests[0], grade=3)] if labels else []
    mine += [pb.Label(image_digest=digest or library.digests[1], grade=grade) for digest, grade in labels]
    with pytest.raises(error):
        rater.call(
            "RecordLabels",
            pb.RecordLabelsRequest(taste=library.taste, labels=mine, request_id=str(uuid.uuid4())),
        )
    assert not rater.call("ListLabels", pb.ListLabelsRequest(taste=library.taste)).labels


def test_comparisons_are_stored_and_wrong_ones_refused(rater, library):
    def compare(winner, loser):
        request = pb.RecordComparisonRequest(
            taste=library.taste,
            comparison={"winner_digest": winner, "loser_digest": loser},
            request_id=str(uuid.uuid4()),
        )
        return rater.call("RecordComparison", request)

    made = compare(*library.digests[:2])
    assert (made.name, made.winner_digest) == (f"{library.taste}/comparisons/1", library.digests[0])
    with pytest.raises(InvalidArgument):
        compare(library.digests[0], library.digests[0])
    with pytest.raises(NotFound):
        compare(library.digests[0], UNKNOWN)


def test_without_a_fit_scores_say_what_to_do(rater, library):
    with pytest.raises(FailedPrecondition) as failure:
        score(rater, [by_digest(library.digests[0])])
    assert failure.value.reason == "RATER_NOT_FITTED"
    assert "FitRater" in failure.value.message
    with pytest.raises(FailedPrecondition):
        rater.call("SelectImages", pb.SelectImagesRequest(taste=library.taste, policy="converge", count=3))
    rater.label(library.taste, {library.digests[0]: 3})
    with pytest.raises(FailedPrecondition) as failure:
        rater.fit(library.taste)
    assert failure.value.reason == "TOO_FEW_LABELS"
    assert "has 1 graded, of 1 grades, and 0 pairs; grade more (konomi label)" in failure.value.message
    with pytest.raises(NotFound) as failure:
        rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=f"{library.taste}/raterVersions/active"))
    assert failure.value.reason == "RATER_NOT_FITTED", "and not that version 0 is missing"
    assert "found none yet: grade about 30 images (konomi label)" in failure.value.message


def test_scores_are_complete_in_order_and_per_image(rater, fitted):
    stranger = png((255, 0, 0), seed=999)
    inputs = [
        by_digest(fitted.digests[50]),
        pb.ImageInput(content=stranger),
        pb.ImageInput(content=b"rubbish"),
        by_digest(UNKNOWN),
        by_digest("zz"),
        pb.ImageInput(),
        pb.ImageInput(content=stranger),
    ]
    answer = score(rater, inputs, measure_diversity=True)
    kinds = [result.WhichOneof("result") for result in answer.results]
    assert kinds == ["score", "score", "error", "error", "error", "error", "score"]
    assert [answer.results[i].error.reason for i in range(2, 6)] == [
        "IMAGE_TYPE",
        "ARTIFACT_NOT_FOUND",
        "DIGEST_INVALID",
        "IMAGE_MISSING",
    ]
    assert answer.results[1].score == answer.results[6].score
    for found in (answer.results[0].score, answer.results[1].score):
        assert 1 <= found.utility <= 5
        assert found.std > 0
        assert found.lower_bound == pytest.approx(found.utility - found.std)
        assert sum(found.grade_probabilities) == pytest.approx(1)
        assert len(found.grade_probabilities) == 5
        assert 0 <= found.typicality <= 1
        assert 0 < found.novelty < 2
        assert found.rater_version == f"{fitted.taste}/raterVersions/1"
    assert answer.diversity.n == 3


def test_scores_follow_the_owner(rater, fitted):
    fresh = fitted.digests[40:]
    found = score(rater, [by_digest(digest) for digest in fresh], taste=fitted.taste)
    said = [result.score.utility for result in found.results]
    wanted = [fitted.utility[digest] for digest in fresh]
    assert np.corrcoef(np.argsort(np.argsort(said)), np.argsort(np.argsort(wanted)))[0, 1] > 0.6


def test_a_stream_scores_like_a_batch(rater, fitted):
    digests = fitted.digests[40:75]
    requests = [
        pb.ScoreImageStreamRequest(taste=fitted.taste, image=by_digest(d), key=d[:8]) for d in [*digests, UNKNOWN]
    ]
    answers = rater.stream("ScoreImageStream", iter(requests))
    batch = score(rater, [by_digest(d) for d in digests]).results
    assert [a.key for a in answers] == [d[:8] for d in [*digests, UNKNOWN]]
    assert [a.result.score.utility for a in answers[:-1]] == pytest.approx([r.score.utility for r in batch])
    assert answers[-1].result.error.reason == "ARTIFACT_NOT_FOUND"


def test_fit_reports_progress_and_quality_and_is_idempotent(rater, library):
    rater.label(library.taste, grades_of(library, library.digests[:40]))
    request = pb.FitRaterRequest(taste=library.taste, request_id=str(uuid.uuid4()))
    *progress, final = rater.stream("FitRater", request)
    version = final.rater_version
    assert {step.progress.phase for step in progress} >= {"labels", "cross-validation", "quality"}
    assert version.active
    assert version.label_count == 40
    assert set(version.metrics) >= {"srcc", "auc_ssr", "ap_ssr", "qwk", "brier", "ece"}
    for estimate in version.metrics.values():
        assert estimate.low <= estimate.high
        assert estimate.n == 40
    assert set(version.candidates) == {"gp"}
    assert rater.store.exists(version.artifact_digest)
    assert rater.stream("FitRater", request) == [final]
    again = rater.fit(library.taste, keep_active=True)
    assert not again.active
    assert (again.artifact_digest, again.label_digest) == (version.artifact_digest, version.label_digest)


def test_activation_swaps_what_scores(rater, fitted):
    rater.label(fitted.taste, dict.fromkeys(fitted.digests[40:60], 5))
    rater.fit(fitted.taste, keep_active=True)
    before = score(rater, [by_digest(fitted.digests[70])]).results[0].score
    name = f"{fitted.taste}/raterVersions/2"
    assert rater.call("ActivateRaterVersion", pb.ActivateRaterVersionRequest(name=name)).active
    after = score(rater, [by_digest(fitted.digests[70])]).results[0].score
    assert (before.rater_version, after.rater_version) == (f"{fitted.taste}/raterVersions/1", name)
    assert before.utility != after.utility
    active = rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=f"{fitted.taste}/raterVersions/active"))
    assert active.name == name
    listed = rater.call("ListRaterVersions", pb.ListRaterVersionsRequest(taste=fitted.taste)).rater_versions
    assert [(v.name[-1], v.active) for v in listed] == [("2", True), ("1", False)]
    for missing in ("9", "x"):
        with pytest.raises((NotFound, InvalidArgument)):
            rater.call(
                "ActivateRaterVersion",
                pb.ActivateRaterVersionRequest(name=f"{fitted.taste}/raterVersions/{missing}"),
            )


def test_suggestions_are_ungraded_distinct_and_explained(rater, fitted):
    found = rater.call("SuggestImages", pb.SuggestImagesRequest(taste=fitted.taste, count=20, novel=3, no_repeats=True))
    assert len(found.suggestions) == 20 == len({s.image.digest for s in found.suggestions})
    assert all(s.image.grade == 0 and s.reason for s in found.suggestions)
    reasons = [s.reason for s in found.suggestions]
    assert reasons.count(pb.SUGGESTION_REASON_NOVEL) == 3
    assert pb.SUGGESTION_REASON_REPEAT_CHECK not in reasons
    again = rater.call("SuggestImages", pb.SuggestImagesRequest(taste=fitted.taste, count=20, novel=3, no_repeats=True))
    assert again == found


def test_hidden_repeats_come_once_there_are_grades(rater, fitted):
    found = rater.call("SuggestImages", pb.SuggestImagesRequest(taste=fitted.taste, count=40))
    repeats = [s for s in found.suggestions if s.reason == pb.SUGGESTION_REASON_REPEAT_CHECK]
    assert 3 <= len(repeats) <= 5
    assert all(s.image.digest in fitted.digests[:30] for s in repeats)


def test_selection_accounts_for_every_candidate(rater, fitted):
    request = pb.SelectImagesRequest(taste=fitted.taste, policy="converge", count=12, duplicate_cosine=0.9999)
    found = rater.call("SelectImages", request)
    chosen = [m for m in found.selected if m.role == pb.SELECTION_ROLE_SELECTED]
    base = [m for m in found.selected if m.role == pb.SELECTION_ROLE_BASE]
    assert found.considered == 120 == len(chosen) + len(found.rejections)
    assert len({m.digest for m in chosen} | {r.digest for r in found.rejections}) == 120
    assert 0 < len(chosen) <= 12
    assert len(base) == round(len(chosen) / 3)
    assert not {m.digest for m in base} & {m.digest for m in chosen}
    assert found.pressure_nats == pytest.approx(math.log(120 / len(chosen)))
    assert all(m.score.rater_version == found.rater_version for m in chosen)
    graded = grades_of(fitted, fitted.digests[:40])
    assert all(graded.get(m.digest, 5) >= 4 for m in chosen)
    assert rater.call("SelectImages", request) == found


def test_golden_needs_no_rater_and_takes_only_ur(rater, library):
    rater.label(library.taste, {library.digests[0]: 5, library.digests[1]: 4})
    request = pb.SelectImagesRequest(taste=library.taste, policy="golden", count=10, base_share=0)
    assert [m.digest for m in rater.call("SelectImages", request).selected] == [library.digests[0]]


def test_an_unknown_policy_names_the_known_ones(rater, library):
    with pytest.raises(InvalidArgument, match="converge"):
        rater.call("SelectImages", pb.SelectImagesRequest(taste=library.taste, policy="greedy", count=3))


def test_pages_cover_every_image_once_in_order(rater, fitted):
    for order in ("create_time", "utility desc", "novelty", "digest desc"):
        seen, token = [], ""
        while True:
            request = pb.ListImagesRequest(
                taste=fitted.taste, page_size=50, page_token=token, order_by=order, with_scores=True
            )
            page = rater.call("ListImages", request)
            seen += page.images
            token = page.next_page_token
            assert page.total_size == 120
            if not token:
                break
        assert len({i.digest for i in seen}) == 120
        if order == "utility desc":
            values = [i.score.utility for i in seen]
            assert values == pytest.approx(sorted(values, reverse=True))
    with pytest.raises(InvalidArgument):
        rater.call("ListImages", pb.ListImagesRequest(taste=fitted.taste, order_by="beauty"))
    with pytest.raises(InvalidArgument):
        rater.call("ListImages", pb.ListImagesRequest(taste=fitted.taste, page_token="bm9wZQ=="))


def test_filters_hold_together(rater, fitted):
    def total(**parts):
        request = pb.ListImagesRequest(taste=fitted.taste, filter=pb.ImageFilter(**parts))
        return rater.call("ListImages", request).total_size

    assert total(units=["unit-1"]) == 30
    assert total(grades=[0]) == 80
    assert total(units=["unit-1"], grades=[1, 2, 3, 4, 5]) == 0
    assert total(prompt_contains="PORTRAIT 3") == 11
    assert total(digests=fitted.digests[:7]) == 7
    assert total(sources=[pb.SOURCE_IMPORTED]) == 0
    assert 0 < total(min_utility=3.0) < 120


def test_search_and_exploration(rater, fitted):
    by_image = rater.call(
        "SearchImages", pb.SearchImagesRequest(taste=fitted.taste, image=by_digest(fitted.digests[5]), count=3)
    )
    assert by_image.hits[0].image.digest == fitted.digests[5]
    assert by_image.hits[0].similarity == pytest.approx(1, abs=1e-5)
    by_text = rater.call("SearchImages", pb.SearchImagesRequest(taste=fitted.taste, text="a red cab"))
    similarities = [hit.similarity for hit in by_text.hits]
    assert similarities == sorted(similarities, reverse=True)
    assert len(similarities) == 10
    novel = rater.call("ExploreNovelty", pb.ExploreNoveltyRequest(taste=fitted.taste, count=5)).images
    assert len(novel) == 5
    assert all(i.grade == 0 and i.HasField("score") for i in novel)


def test_tastes_do_not_touch_each_other(rater, fitted):
    other = rater.taste("other")
    digest = fitted.digests[0]
    before = score(rater, [by_digest(fitted.digests[70])], taste=fitted.taste)
    rater.add(other, [image(digest)])
    rater.label(other, {digest: 1})
    assert score(rater, [by_digest(fitted.digests[70])], taste=fitted.taste) == before
    with pytest.raises(NotFound):
        rater.call("GetImage", pb.GetImageRequest(taste=other, digest=fitted.digests[1]))


@pytest.mark.parametrize(
    ("rpc", "kind"),
    [
        ("ListImages", "ListImagesRequest"),
        ("SuggestImages", "SuggestImagesRequest"),
        ("ListLabels", "ListLabelsRequest"),
        ("ExploreNovelty", "ExploreNoveltyRequest"),
        ("ListRaterVersions", "ListRaterVersionsRequest"),
    ],
)
def test_an_unknown_taste_is_not_found_and_an_empty_one_answers(rater, rpc, kind):
    request = getattr(pb, kind)
    with pytest.raises(NotFound):
        rater.call(rpc, request(taste="tastes/nobody"))
    rater.call(rpc, request(taste=rater.taste()))


def test_every_error_is_a_konomi_error_and_the_server_lives_on(rater, fitted):
    for inputs in ([], [by_digest(UNKNOWN)] * 257):
        with pytest.raises(KonomiError):
            score(rater, inputs)
    assert score(rater, [by_digest(fitted.digests[0])]).results[0].HasField("score")
