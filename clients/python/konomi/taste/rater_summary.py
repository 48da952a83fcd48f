"""What a rater says of itself, in the language in use: its alarms, its diff, and you against yourself."""

import re
from functools import cache

from konomi.i18n.catalogue import language, text
from konomi.i18n.ja import SPOKEN
from konomi.v1 import rater_pb2 as rater

VERDICTS = {
    rater.VERSION_VERDICT_TOO_FEW: "the panel is too small to tell",
    rater.VERSION_VERDICT_WORSE: "worse: it does not score",
    rater.VERSION_VERDICT_NOT_WORSE: "not worse",
    rater.VERSION_VERDICT_BETTER: "better",
}


def spoken(sentence: str) -> str:
    """Returns a sentence of the server in the language in use; as it is where there is no translation."""
    if language() != "ja":
        return sentence
    for english, japanese in SPOKEN.items():
        found = _pattern(english).fullmatch(sentence)
        if found:
            return japanese.format(**found.groupdict())
    return sentence


def compared(version: rater.RaterVersion) -> list[str]:
    """Returns what a version is beside the owner's own agreement, the version before it and the pressure on it."""
    lines = []
    if {"qwk", "retest_qwk"} <= set(version.metrics):
        own, again = version.metrics["qwk"], version.metrics["retest_qwk"]
        line = "agreement with you: {qwk}; you with yourself: {retest} over {n} hidden repeats"
        lines.append(text(line, qwk=_figure(own), retest=_figure(again), n=again.n))
    if version.HasField("diff"):
        lines.append(_diff(version.diff))
    if version.HasField("pressure") and version.pressure.selections:
        line = "selection pressure since the last audit: {nats} nats over {n} selections (best of n: {best})"
        spent = version.pressure
        best = f"{spent.best_of_n_nats:.1f}"
        lines.append(text(line, nats=f"{spent.nats:.1f}", n=spent.selections, best=best))
    return lines


def _diff(diff: rater.VersionDiff) -> str:
    against, verdict = diff.against.rpartition("/")[2], text(VERDICTS.get(diff.verdict, "not compared"))
    if not diff.HasField("gain"):
        line = "against version {against}: {changed} labels changed; {verdict}"
        return text(line, against=against, changed=diff.labels_changed, verdict=verdict)
    line = (
        "against version {against}: {changed} labels changed; on {n} panel images srcc {srcc}, before {before}; "
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


@cache
def _pattern(english: str) -> re.Pattern[str]:
    seen: set[str] = set()
    pieces = []
    for place, part in enumerate(re.split(r"\{(\w+)\}", english)):
        named = f"(?P={part})" if part in seen else f"(?P<{part}>.+?)"
        pieces.append(named if place % 2 else re.escape(part))
        seen |= {part} if place % 2 else set()
    return re.compile("".join(pieces))
