"""`konomi explain`: where an image comes from, and what became of it."""

from collections.abc import Sequence
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, say
from konomi.client.messages import GRADES, plain
from konomi.client.services import taste_name
from konomi.i18n.catalogue import text
from konomi.taste.provenance import AVOIDED, Explanation, ParentImage, TrainingSet
from konomi.taste.provenance import explain as everything
from konomi.v1 import rater_pb2 as rater


def explain(
    digest: Annotated[str, typer.Argument(help="The image: its sha256, or its first digits.")],
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Say where an image comes from: prompt, seed, unit, parents, grades, score and the training sets it entered.

    Example: konomi explain 3fa85f64
    """
    with attached() as client:
        explanation = everything(client, taste_name(taste), digest)
    if as_json:
        return emit(explanation.plain())
    for line in lines(explanation):
        say(line)


def lines(explanation: Explanation) -> list[str]:
    """Returns an explanation as lines for people."""
    image = explanation.image
    made = text("made by {unit}", unit=image.unit) if image.unit else text("imported")
    result = [image.digest, f"  {made}"]
    if image.path:
        result.append("  " + text("file: {path}", path=image.path))
    if image.prompt:
        result.append("  " + text("prompt: {prompt}", prompt=image.prompt))
    if image.unit:
        result.append("  " + text("seed: {seed}", seed=image.seed))
    if image.pixels_collected:
        result.append("  " + text("its pixels were collected by the storage policy"))
    if image.night:
        result.append("  " + text("in the night {night}", night=image.night))
    result += _family(explanation.parents, 1)
    result += [_label(label) for label in explanation.labels] or ["  " + text("never graded")]
    result.append(_score(explanation.score))
    result += [_training_set(training_set) for training_set in explanation.training_sets] or [
        "  " + text("in no training set")
    ]
    return result


def _family(parents: Sequence[ParentImage], depth: int) -> list[str]:
    result: list[str] = []
    for parent in parents:
        about = parent.prompt or parent.unit
        result.append("  " * depth + text("from {digest}", digest=parent.digest[:12]) + (f"  {about}" if about else ""))
        result += _family(parent.parents, depth + 1)
    return result


def _label(label: rater.Label) -> str:
    grade, time = plain(label)["grade"], label.create_time.ToJsonString()
    words = text("{grade} by {who}, {time}", grade=grade, who=label.labeller, time=time[:16])
    return f"  {words}" + (f" ({text('undone')})" if label.undone else "")


def _score(score: rater.Score | None) -> str:
    if score is None:
        return "  " + text("no rater has scored it yet")
    chances = list(score.grade_probabilities)
    likeliest = GRADES[chances.index(max(chances))]
    utility, doubt, version = score.utility, score.std, score.rater_version.rpartition("/")[2]
    words = "scored {utility:.2f} ± {doubt:.2f}, most likely {grade}, by rater version {version}"
    return "  " + text(words, utility=utility, doubt=doubt, grade=likeliest, version=version)


def _training_set(training_set: TrainingSet) -> str:
    words = "trained {name} as {role}, one of {images} images, chosen by rater version {version}"
    if training_set.role == AVOIDED:
        words = "turned away from by {name}, whose set has {images} images, chosen by rater version {version}"
    version = training_set.rater_version.rpartition("/")[2] or "-"
    return "  " + text(
        words, name=training_set.display_name, role=training_set.role, images=training_set.images, version=version
    )
