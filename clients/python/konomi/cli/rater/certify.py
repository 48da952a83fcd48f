"""`konomi rater certify`: a golden set vouched for by grading a few of its images blind."""

import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, say
from konomi.cli.terminal.keys import read_keys
from konomi.cli.terminal.pictures import show, way_here
from konomi.client import Client
from konomi.client.messages import GRADES, plain
from konomi.client.services import DIGEST, taste_name
from konomi.datasets.spelling import text_in
from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.i18n.catalogue import percent, text
from konomi.taste.rater_summary import explanation
from konomi.v1 import rater_pb2 as rater

HELP = "1 N · 2 R · 3 SR · 4 SSR · 5 UR · z back · q quit; blind: no score is shown"
GRADE_NUMBERS = tuple(rater.Grade.values())


def certify(
    certificate: Annotated[
        str, typer.Argument(metavar="[CERTIFICATE]", help="Go on with this certificate, by its number.")
    ] = "",
    count: Annotated[int, typer.Option(min=1, max=10000, help="Images of the set, at most.")] = 100,
    policy: Annotated[str, typer.Option(help="How the set is chosen: converge, golden or conformal.")] = "converge",
    members: Annotated[
        Path | None, typer.Option("--set", metavar="FILE", help="Certify these images instead: digests, best first.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Largest share below the threshold to vouch for.")] = 0.2,
    delta: Annotated[float, typer.Option(help="Chance of a wrong certificate.")] = 0.05,
    rejections: Annotated[int, typer.Option(help="Rejections allowed; fewer means fewer images to grade.")] = 2,
    threshold: Annotated[str, typer.Option(help="Lowest grade that counts as good.")] = "SSR",
    stages: Annotated[
        str, typer.Option(metavar="N,N,…", help="Certify the first N first, then more, until one fails.")
    ] = "",
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Vouch for a set of images by grading a few of them blind, drawn at random.

    With 30 shown and at most 2 of them below SSR, at most 20 % of the set are below SSR, with 95 % confidence. Every
    key is durable; the same set goes on where it was left. The answers are never labels.

    Example: konomi rater certify --count 100
    """
    with attached() as client:
        if certificate:
            audit = client.rater.record_audit(name=_name(certificate, taste))
        else:
            digests = _members(members) if members is not None else _selected(client, taste, policy, count)
            request = _terms(alpha, delta, rejections, threshold)
            sizes = _stages(stages, len(digests))
            request.MergeFrom(rater.CertifySetRequest(taste=taste_name(taste), digests=digests, stages=sizes))
            audit = client.rater.certify_set(request)
        audit = _grade_blind(client, audit)
    emit(plain(audit)) if as_json else say(verdict(audit))


def _terms(alpha: float, delta: float, rejections: int, threshold: str) -> rater.CertifySetRequest:
    """Returns what a certificate vouches for; the request without its set."""
    grade = _grade(threshold)
    return rater.CertifySetRequest(alpha=alpha, delta=delta, allowed_rejections=rejections, threshold=grade)


def verdict(certificate: rater.Certificate) -> str:
    """Returns what a certificate says, in one sentence."""
    grade = GRADES[certificate.threshold - 1]
    if certificate.certified:
        return text(
            "certified: at most {alpha} of the {size} images are below {grade}, with {confidence} confidence",
            alpha=percent(certificate.alpha),
            size=certificate.certified_size,
            grade=grade,
            confidence=percent(1 - certificate.delta),
        )
    if certificate.ended:
        return text(
            "not certified: {rejections} rejected, {allowed} allowed; up to {bound} may be below {grade}",
            rejections=certificate.rejections,
            allowed=certificate.allowed_rejections,
            bound=percent(certificate.upper_bound),
            grade=grade,
        )
    return text(
        "{left} of {shown} images are left to grade; go on with: konomi rater certify {number}",
        left=len(certificate.pending),
        shown=len(certificate.shown),
        number=certificate.name.rpartition("/")[2],
    )


def _grade_blind(client: Client, audit: rater.Certificate) -> rater.Certificate:
    """Shows image after image and records a key for each, until q, the end of the input, or the end of the audit."""
    answered: list[str] = []
    again = ""
    if audit.ended:
        return audit
    note(text(HELP))
    with tempfile.TemporaryDirectory(prefix="konomi-certify-") as folder, read_keys() as keys:
        way = way_here()
        while not audit.ended:
            digest = again or audit.pending[0]
            show(client.artifacts.get(digest), rater.Image(digest=digest), Path(folder), way)
            key = next(keys, "q")
            if key == "q":
                break
            if re.fullmatch("[1-5]", key):
                label = rater.Label(image_digest=digest, grade=GRADE_NUMBERS[int(key)])
                audit = client.rater.record_audit(name=audit.name, labels=[label])
                answered.append(digest)
                again = ""
            elif key == "z":
                again = answered.pop() if answered else again
            elif keys.interactive:
                note(text(HELP))
            else:
                raise InvalidArgument(text("expected one of 1-5, z and q on each line, got {key!r}", key=key))
    return audit


def _selected(client: Client, taste: str, policy: str, count: int) -> list[str]:
    reply = client.rater.select_images(taste=taste_name(taste), policy=policy, count=count, base_share=0.0)
    if reply.explanation:
        note(explanation(reply))
    if not reply.selected:
        why = text("the policy {policy} selected no image: grade or make more, or name a set with --set", policy=policy)
        raise FailedPrecondition(why, reason="NOTHING_SELECTED")
    return [member.digest for member in reply.selected]


def _members(file: Path) -> list[str]:
    try:
        lines = text_in(file).split()
    except (OSError, ValueError) as error:
        raise InvalidArgument(text("expected a readable file of digests, got {file}", file=file)) from error
    wrong = next((line for line in lines if not DIGEST.fullmatch(line)), None)
    if wrong is not None or not lines:
        raise InvalidArgument(
            text("expected a sha256 digest on each line of {file}, got {line!r}", file=file, line=wrong)
        )
    return lines


def _stages(given: str, size: int) -> list[int]:
    """Returns the sizes of the nested sets; those beyond the set itself are cut to it."""
    if not given:
        return []
    if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", given):
        raise InvalidArgument(text("expected sizes such as 50,100 with --stages, got {given!r}", given=given))
    sizes = [int(part) for part in given.split(",")]
    return [*(part for part in sizes if part < size), size]


def _grade(name: str) -> rater.Grade.ValueType:
    if name.upper() not in GRADES:
        raise InvalidArgument(text("expected a grade N, R, SR, SSR or UR, got {name!r}", name=name))
    return rater.Grade.ValueType(GRADES.index(name.upper()) + 1)


def _name(certificate: str, taste: str) -> str:
    return certificate if "/" in certificate else f"{taste_name(taste)}/certificates/{certificate}"
