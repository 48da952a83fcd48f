"""What `konomi rater show` says beside the figures: you against yourself, the version before, the pressure."""

import json

import pytest

from konomi.i18n import catalogue
from konomi.taste.rater_summary import alarm_log, alarms, compared, explanation, logged_alarms
from konomi.v1 import rater_pb2 as rater


def estimate(value: float, n: int = 40) -> rater.Estimate:
    return rater.Estimate(value=value, low=value - 0.1, high=value + 0.1, n=n)


def version(**fields) -> rater.RaterVersion:
    return rater.RaterVersion(name="tastes/default/raterVersions/4", **fields)


@pytest.fixture
def japanese():
    catalogue.use("ja")
    yield
    catalogue.use("en")


def test_the_raters_agreement_stands_beside_your_own():
    said = compared(version(metrics={"qwk": estimate(0.6), "retest_qwk": estimate(0.8, 12)}))
    assert said == [
        "agreement with you: 0.60 (0.50 – 0.70); you with yourself: 0.80 (0.70 – 0.90) over 12 hidden repeats"
    ]
    assert compared(version(metrics={"qwk": estimate(0.6)})) == []


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (rater.VERSION_VERDICT_WORSE, "worse: it does not score"),
        (rater.VERSION_VERDICT_NOT_WORSE, "not worse"),
        (rater.VERSION_VERDICT_BETTER, "better"),
    ],
)
def test_the_diff_names_the_version_before_and_the_verdict(verdict, words):
    diff = rater.VersionDiff(
        against="tastes/default/raterVersions/3",
        verdict=verdict,
        labels_changed=25,
        srcc=estimate(0.5),
        earlier_srcc=estimate(0.4),
        gain=estimate(0.1),
    )
    (line,) = compared(version(diff=diff))
    assert line == (
        "against version 3: 25 grades are new; "
        "on 40 images kept aside srcc 0.50 (0.40 – 0.60), before 0.40 (0.30 – 0.50); " + words
    )


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.02, 0.2, "timm:b serves this taste better; to change over, run: konomi rater embedder timm:b --taste cats"),
        (-0.2, -0.02, "starter, which is in use, serves this taste better"),
        (-0.1, 0.2, "neither is surely better: more grades can tell, a change need not help"),
    ],
)
def test_two_embedders_stand_side_by_side_with_one_sentence(low, high, words):
    gain = rater.Estimate(value=0.1, low=low, high=high, n=40)
    beside = rater.EmbedderComparison(
        embedder="starter", second="timm:b", label_count=40, srcc=estimate(0.4), second_srcc=estimate(0.5), gain=gain
    )
    figures, sentence = compared(rater.RaterVersion(name="tastes/cats/raterVersions/4", embedder_comparison=beside))
    assert "on 40 held-out grades" in figures and "starter srcc 0.40 (0.30 – 0.50)" in figures
    assert f"timm:b srcc 0.50 (0.40 – 0.60); difference +0.10 ({low:+.2f} – {high:+.2f})" in figures
    assert sentence == words


def test_a_second_embedder_that_cannot_be_told_apart_yet_says_why(japanese):
    few = rater.EmbedderComparison(embedder="starter", second="timm:b", label_count=12)
    (line,) = compared(version(embedder_comparison=few))
    assert "採点 12 件" in line and "20 枚" in line
    (line,) = compared(version(embedder_comparison=rater.EmbedderComparison(second="timm:b", pending=True)))
    assert "timm:b" in line and "まだ" in line


def test_a_diff_without_a_panel_says_so(japanese):
    diff = rater.VersionDiff(
        against="tastes/t/raterVersions/1", verdict=rater.VERSION_VERDICT_TOO_FEW, labels_changed=3
    )
    (line,) = compared(version(diff=diff))
    assert line == "版 1 と比べて: 新しい採点は 3 枚です。比べるために取り分けた画像がまだ足りません"


def test_pressure_is_told_once_there_is_any():
    spent = rater.Pressure(nats=4.25, best_of_n_nats=3.1, selections=2)
    (line,) = compared(version(pressure=spent))
    assert line == "selection pressure since the last audit: 4.2 nats over 2 selections (best of n: 3.1)"
    assert compared(version(pressure=rater.Pressure())) == []


def test_an_alarm_is_said_from_its_name_and_numbers(japanese):
    english = "Only 2 UR labels: probabilities of UR rest on the order of the lower grades."
    named = version(alarms=[english], alarm_details=[rater.Alarm(name="few_ur", numbers={"top": 2})])
    (alarm,) = alarms(named)
    assert alarm.startswith("UR の採点が 2 枚しかありません")


@pytest.mark.parametrize(
    "details",
    [
        [],
        [rater.Alarm()],
        [rater.Alarm(name="of_a_newer_rater", numbers={"top": 2})],
        [rater.Alarm(name="few_ur", numbers={"another": 2})],
    ],
    ids=["a rater that sends strings alone", "fitted before names", "unknown name", "unknown numbers"],
)
def test_an_alarm_that_is_not_known_stays_as_it_was_sent(japanese, details):
    assert alarms(version(alarms=["The moon is full."], alarm_details=details)) == ["The moon is full."]


def test_a_nights_log_says_alarms_in_the_readers_language(japanese):
    named = version(alarms=["Only 2 UR labels."], alarm_details=[rater.Alarm(name="few_ur", numbers={"top": 2})])
    log = json.loads(json.dumps(alarm_log(named)))
    assert log["alarms"] == ["Only 2 UR labels."]
    assert logged_alarms(log)[0].startswith("UR の採点が 2 枚")
    assert logged_alarms({"alarms": ["Of an older night."]}) == ["Of an older night."]
    assert logged_alarms({}) == []


def test_a_selections_explanation_is_said_from_its_name(japanese):
    details = rater.Explanation(name="evidence_few", numbers={"needed": 500, "labels": 40})
    reply = rater.SelectImagesResponse(explanation="Selection by evidence…", explanation_details=details)
    assert explanation(reply).startswith("証拠による選別には採点が 500 枚必要で、今は 40 枚です")
    assert explanation(rater.SelectImagesResponse(explanation="Of an older rater.")) == "Of an older rater."
    assert explanation(rater.SelectImagesResponse()) == ""
