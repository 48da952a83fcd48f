"""What a rater says of itself, in the language in use: its alarms, its diff, and you against yourself."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, TypedDict

from konomi.i18n.catalogue import N_, percent, text
from konomi.taste.embedder import change_line
from konomi.v1 import rater_pb2 as rater

SENTENCES: Mapping[str, str] = {
    "gap": "Over-optimisation: from {first} to {last} the rater's mean grade rose {proxy} and people's own did not "
    "({human}); grade more random images of {last}, or roll back.",
    "doubt": "Over-optimisation: the rater doubts the images of {last} {ratio} times as much as those of {first}; "
    "grade some of them.",
    "strangers": "Over-optimisation: {share} of the images of {last} are unlike anything known, {base} of {first}; "
    "look at them before going on.",
    "pressure": "Over-optimisation: {nats} nats of selection since a person last audited, more than {limit}; "
    "konomi rater certify audits a set.",
    "not_activated": "Not activated: on {n} panel images no version was fitted on it ranks surely worse than version "
    "{against} (srcc {srcc} against {earlier}); that one goes on scoring.",
    "only_favourites": "Only favourites are graded: the rater knows what is unlike the rest, not how often you would "
    "give a grade; grade some images you do not like.",
    "only_pairs": "Pairs say which image you prefer, not what is SSR or UR to you: how often you give each grade is "
    "assumed (of your images 4 % UR, 8 % SSR, 18 % SR, 30 % R, 40 % N); grade {more} images in the view Grade to say "
    "it.",
    "pairs_chance": "On unseen pairs the rater is not surely better than chance ({share} right, {base} by chance): "
    "compare more pairs, or grade {more} images in the view Grade.",
    "few_ur": "Only {top} UR labels: probabilities of UR rest on the order of the lower grades; {missing} more images "
    "graded UR are enough, for example from the best of the Library.",
    "few_random": "Go on in the view Grade: once {missing} more of its random picks (about one image in five) are "
    "graded, the percentages can be checked.",
    "unmeasured": "Too few independent labels to measure the rater: grade {more} more images in the view Grade.",
    "chance": "On unseen labels the rater is not surely better than chance (srcc {low} to {high}): grade {more} more "
    "images in the view Grade.",
    "evidence_few": "Selection by evidence needs {needed} labels and there are {labels}: nothing was selected; until "
    "then konomi rater certify can vouch for a set.",
    "evidence_none": "{n} random labels show none of the images to be good at a false-discovery rate of {rate}: at "
    "least {least} of the candidates would have to qualify together; grade more random images, or allow a higher rate.",
    "evidence_all": "At most {rate} of these {count} images are below SSR, on average over draws of {n} random labels.",
    "evidence_cut": "At most {rate} of the {admitted} images that qualify are below SSR, on average over draws of {n} "
    "random labels; the {count} with the strongest evidence were selected.",
}
"""Name to English, in the rater's own words; a name that is not here is one of a newer rater."""

FORMER: Mapping[str, str] = {
    "few_ur": "Only {top} UR labels: probabilities of UR rest on the order of the lower grades.",
    "unmeasured": "Too few independent labels to measure the rater: grade more images.",
    "chance": "On unseen labels the rater is not surely better than chance (srcc {low} to {high}): grade more images.",
}
"""The same of versions fitted before a sentence had all its numbers."""

FORMATS: Mapping[str, str] = {
    **dict.fromkeys(("proxy", "srcc", "earlier", "low", "high"), ".2f"),
    **dict.fromkeys(("ratio", "nats", "limit"), ".1f"),
    "human": "+.2f",
}
"""How a number is written; all others are counts, or shares."""

SHARES: Mapping[str, int] = {"share": 0, "base": 0, "rate": 0, "least": 1}
"""A number written as a percentage, and its decimals."""

VERDICTS = {
    rater.VERSION_VERDICT_TOO_FEW: "too few images are kept aside to compare by yet",
    rater.VERSION_VERDICT_WORSE: "worse: it does not score",
    rater.VERSION_VERDICT_NOT_WORSE: "not worse",
    rater.VERSION_VERDICT_BETTER: "better",
}


def alarms(version: rater.RaterVersion) -> list[str]:
    """Returns the alarms of a version; in English where the rater sent them without names, or with newer ones."""
    return logged_alarms(alarm_log(version))


def explanation(reply: rater.SelectImagesResponse) -> str:
    """Returns what a policy with a guarantee says of its selection; empty where it says nothing."""
    details = reply.explanation_details
    return _sentence(details.name, dict(details.numbers), {}, reply.explanation)


class AlarmDetail(TypedDict):
    """An alarm's name, and the numbers and words its sentence is filled with."""

    name: str
    numbers: dict[str, float]
    words: dict[str, str]


class AlarmLog(TypedDict):
    """The alarms of a version as a log keeps them."""

    alarms: list[str]
    alarm_details: list[AlarmDetail]


def alarm_log(version: rater.RaterVersion) -> AlarmLog:
    """Returns what a log keeps of the alarms: "alarms" in English, and "alarm_details" to say them in any language."""
    details: list[AlarmDetail] = [
        {"name": alarm.name, "numbers": dict(alarm.numbers), "words": dict(alarm.words)}
        for alarm in version.alarm_details
    ]
    return {"alarms": list(version.alarms), "alarm_details": details}


def logged_alarms(log: Mapping[str, Any]) -> list[str]:
    """Returns the alarms of a log; in English where only that was kept."""
    pairs = zip_longest(log.get("alarms", []), log.get("alarm_details", []), fillvalue=None)
    return [
        english if not detail else _sentence(detail["name"], detail["numbers"], detail["words"], english)
        for english, detail in pairs
        if english is not None
    ]


def _sentence(name: str, numbers: Mapping[str, float], words: Mapping[str, str], english: str) -> str:
    """Returns a sentence of the rater; the English it sent where the name, or what fills it, is not known here."""
    values = {key: _written(key, number) for key, number in numbers.items()} | dict(words)
    for table in (SENTENCES, FORMER):
        try:
            return text(table[name], **values)
        except KeyError:
            continue
    return english


def _written(key: str, number: float) -> str:
    return percent(number, SHARES[key]) if key in SHARES else format(number, FORMATS.get(key, ".0f"))


def compared(version: rater.RaterVersion) -> list[str]:
    """Returns what a version is beside the owner's own agreement, the version before it and the pressure on it."""
    lines = []
    if {"qwk", "retest_qwk"} <= set(version.metrics):
        own, again = version.metrics["qwk"], version.metrics["retest_qwk"]
        line = "agreement with you: {qwk}; you with yourself: {retest} over {n} hidden repeats"
        lines.append(text(line, qwk=_figure(own), retest=_figure(again), n=again.n))
    if version.HasField("diff"):
        lines.append(_diff(version.diff))
    lines += [_prior(use) for use in version.populations]
    lines += embedders_compared(version)
    if version.HasField("pressure") and version.pressure.selections:
        line = "selection pressure since the last audit: {nats} nats over {n} selections (best of n: {best})"
        spent = version.pressure
        best = f"{spent.best_of_n_nats:.1f}"
        lines.append(text(line, nats=f"{spent.nats:.1f}", n=spent.selections, best=best))
    return lines


LEAST_TOLD = 20
"""Held-out grades below which two embedders cannot be told apart."""


def embedders_compared(version: rater.RaterVersion) -> list[str]:
    """Returns what a version's embedder is beside a second one: both figures, then one sentence; none without one."""
    if not version.HasField("embedder_comparison"):
        return []
    found = version.embedder_comparison
    names = {"own": found.embedder, "second": found.second}
    if found.pending:
        return [text("{second} is not compared with {own} yet: its images are still being embedded", **names)]
    if not found.HasField("gain"):
        line = N_("{second} and {own} cannot be told apart by {n} grades; grade {least} images of at least two grades")
        return [text(line, n=found.label_count, least=LEAST_TOLD, **names)]
    gain = found.gain
    figures = text(
        "on {n} held-out grades, the same for both: {own} srcc {srcc}, {second} srcc {other}; difference {gain}",
        n=gain.n,
        srcc=_figure(found.srcc),
        other=_figure(found.second_srcc),
        gain=f"{gain.value:+.2f} ({gain.low:+.2f} – {gain.high:+.2f})",
        **names,
    )
    if gain.low > 0:
        taste = version.name.partition("/raterVersions/")[0]
        line = N_("{second} serves this taste better; to change over, run: {line}")
        return [figures, text(line, line=change_line(found.second, taste), **names)]
    if gain.high < 0:
        return [figures, text("{own}, which is in use, serves this taste better", **names)]
    return [figures, text("neither is surely better: more grades can tell, a change need not help", **names)]


def _prior(use: rater.PopulationUse) -> str:
    """Returns what a population added by the owner's held-out labels."""
    line = N_("what others like ({name}): on {n} held-out labels srcc {srcc}, without it {without}; dropped")
    if use.used:
        line = N_("what others like ({name}): on {n} held-out labels srcc {srcc}, without it {without}; used")
    name, figures = use.name.removeprefix("populations/"), (f"{use.srcc:.2f}", f"{use.srcc_without:.2f}")
    return text(line, name=name, n=use.gain.n, srcc=figures[0], without=figures[1])


def _diff(diff: rater.VersionDiff) -> str:
    against, verdict = diff.against.rpartition("/")[2], text(VERDICTS.get(diff.verdict, "not compared"))
    if not diff.HasField("gain"):
        line = "against version {against}: {changed} grades are new; {verdict}"
        return text(line, against=against, changed=diff.labels_changed, verdict=verdict)
    line = (
        "against version {against}: {changed} grades are new; on {n} images kept aside srcc {srcc}, before {before}; "
        "{verdict}"
    )
    return text(
        line,
        against=against,
        changed=diff.labels_changed,
        n=diff.gain.n,
        srcc=_figure(diff.srcc),
        before=_figure(diff.earlier_srcc),
        verdict=verdict,
    )


def _figure(figure: rater.Estimate) -> str:
    return f"{figure.value:.2f} ({figure.low:.2f} – {figure.high:.2f})"
