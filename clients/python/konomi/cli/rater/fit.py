"""`konomi rater fit | show | certify | embedder`: a new rater version, and how good a version honestly is."""

from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, progress, say, table
from konomi.cli.rater.certify import certify
from konomi.cli.rater.embedder import embedder
from konomi.client.messages import plain
from konomi.client.services import taste_name
from konomi.errors import Internal
from konomi.i18n.catalogue import plural, text
from konomi.taste.rater_summary import alarms, compared
from konomi.v1 import rater_pb2 as rater

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.command("embedder")(embedder)
app.command("certify")(certify)

MEANINGS = {
    "srcc": "rank agreement with your grades",
    "auc_ssr": "telling SSR and UR from the rest",
    "ap_ur": "finding UR",
    "ap_ssr": "finding SSR and UR",
    "qwk": "agreement on the grade itself",
    "brier": "error of the probabilities (lower is better)",
    "ece": "miscalibration (lower is better)",
    "retest_qwk": "you against yourself",
    "pair_accuracy": "pairs ordered as you did, one of the two unseen",
    "auc_pu": "favourites against ungraded images, where liked ones hide too: at least this good",
}


@app.command()
def fit(
    taste: TasteId = "default",
    seed: Annotated[int, typer.Option(help="Seed of folds and bootstrap.")] = 0,
    keep_active: Annotated[bool, typer.Option(help="Do not let the new version score yet.")] = False,
    as_json: Json = False,
) -> None:
    """Fit a new rater version on the labels and let it score from now on.

    Example: konomi rater fit
    """
    version: rater.RaterVersion | None = None
    with attached() as client, progress(text("fitting"), None) as update:
        for reply in client.rater.fit_rater(taste=taste_name(taste), seed=seed, keep_active=keep_active):
            if reply.HasField("progress"):
                step = reply.progress
                update(description=step.phase, completed=step.done, total=step.total or None)
            if reply.HasField("rater_version"):
                version = reply.rater_version
    if version is None:
        raise Internal(text("the fit ended without a rater version; see the rater's log"))
    _print(version, as_json)


@app.command()
def show(
    version: Annotated[
        str, typer.Argument(help="The version, by its id; the one that scores where none is given.")
    ] = "active",
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Show a rater version's quality with 95 % intervals, and its alarms.

    Example: konomi rater show --json
    """
    name = version if version.startswith("tastes/") else f"{taste_name(taste)}/raterVersions/{version}"
    with attached() as client:
        _print(client.rater.get_rater_version(name=name), as_json)


def _print(version: rater.RaterVersion, as_json: bool) -> None:
    if as_json:
        emit(plain(version))
        return
    line = text(
        "{name}: {labels} labels, head {head}", name=version.name, labels=version.label_count, head=version.head
    )
    say(line)
    if version.comparison_count:
        sentence = _compared if version.label_count else _compared_alone
        say(sentence(version.comparison_count))
    if version.held_out_count:
        one = "{count} label was kept out of the fit, to judge versions by"
        say(plural(one, "{count} labels were kept out of the fit, to judge versions by", version.held_out_count))
    rows = [
        (
            name,
            f"{figure.value:.3f}",
            f"{figure.low:.3f} – {figure.high:.3f}",
            str(figure.n),
            text(MEANINGS.get(name, "")),
        )
        for name, figure in sorted(version.metrics.items())
    ]
    table(("figure", "value", "95 % interval", "n", "meaning"), rows)
    for line in compared(version):
        say(line)
    for alarm in alarms(version):
        note(f"! {alarm}")


def _compared_alone(count: int) -> str:
    one = "{count} comparison of two images, and no grades"
    return plural(one, "{count} comparisons of two images, and no grades", count)


def _compared(count: int) -> str:
    one = "{count} comparison of two images beside the labels"
    return plural(one, "{count} comparisons of two images beside the labels", count)
