"""`konomi night verdict`: judge the night's blind pairs here or on a sheet, then keep its unit or roll it back."""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, emit, note, say
from konomi.cli.terminal.keys import Keys, read_keys
from konomi.cli.terminal.pictures import show, way_here
from konomi.client import Client
from konomi.errors import InvalidArgument, NotFound
from konomi.evaluation import blind_pairs
from konomi.files import write_for_user
from konomi.home import Home
from konomi.host.session import open_session
from konomi.i18n import catalogue
from konomi.i18n.catalogue import percent, plural, text
from konomi.night import verdict as judging
from konomi.night.draws import evaluation_draws
from konomi.night.records.store import NightStore
from konomi.night.systems.registry import night_settings
from konomi.night.verdict import KEEP, OPEN, ROLL_BACK, BlindEvaluation, VerdictSummary
from konomi.taste.likes import likes_of
from konomi.v1 import rater_pb2 as rater

KEYS = {"l": "left", "1": "left", "r": "right", "2": "right", "t": "tie", "0": "tie"}
HELP = "l left · r right · t equal · z undo · q quit"


def verdict(
    night: Annotated[str, typer.Option("--night", help="The night, by its id; default: the newest with pairs.")] = "",
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the blind pairs as one HTML file.")] = None,
    answers: Annotated[str, typer.Option(metavar="LRT...", help="The answers such a sheet shows.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the unit the night serves.")] = False,
    roll_back: Annotated[bool, typer.Option("--roll-back", help="Return to what was served before the night.")] = False,
    as_json: Json = False,
) -> None:
    """Judge a night blind: its unit against what was served before, at equal prompts and seeds; then keep or roll back.

    In a terminal the pairs are shown one by one; elsewhere, or with --sheet, on a page whose answers go to --answers.
    The answers are an audit: no rater learns from them, and the next night's selection pressure starts anew.

    Example: konomi night verdict --keep
    """
    if keep and roll_back:
        raise InvalidArgument(text("expected one of --keep and --roll-back, got both"))
    home = Home.locate()
    nights = NightStore(home.root)
    chosen = night or judging.newest(nights)
    if chosen is None:
        raise NotFound(text("no night has been started here"))
    evaluation = BlindEvaluation(nights, chosen)
    decision = KEEP if keep else ROLL_BACK if roll_back else ""
    with read_keys() as keys:
        asks = keys.interactive and not (sheet or answers or decision or as_json or evaluation.done)
        if evaluation.pairs() and (
            sheet or answers or decision or asks or (evaluation.done and not evaluation.kept.audit)
        ):
            with open_session(home) as session:
                _act(session.client, nights, evaluation, _Wish(sheet, answers, decision, keys if asks else None))
        elif decision or answers:
            evaluation.answer_all(answers or "-")  # says what there is to say: nothing to judge
    summary = evaluation.summary()
    if as_json:
        return emit({"night": chosen, **summary.plain()})
    for line in lines(summary):
        say(line)


class _Wish:
    """What the line asked for."""

    def __init__(self, sheet: Path | None, answers: str, decision: str, keys: Keys | None) -> None:
        self.sheet, self.answers, self.decision, self.keys = sheet, answers, decision, keys


def _act(client: Client, nights: NightStore, evaluation: BlindEvaluation, wish: _Wish) -> None:
    if wish.sheet is not None:
        write_for_user(wish.sheet, sheet_of(client, nights, evaluation).encode())
        note(
            plural(
                "{count} blind pair in {file}",
                "{count} blind pairs in {file}",
                len(evaluation.pairs()),
                file=wish.sheet,
            )
        )
    if wish.answers:
        evaluation.answer_all(wish.answers)
    decision = wish.decision
    if wish.keys is not None:
        _ask(client, nights, evaluation, wish.keys)
        decision = _choose(evaluation, wish.keys)
    judging.hand_over(client, evaluation)
    if decision:
        judging.decide(client, evaluation, decision, time.time())
    if evaluation.done or decision:
        from konomi.night.report.render import write_night_report

        liked = likes_of(client, evaluation.taste)
        write_night_report(nights, evaluation.night, client.artifacts.get, catalogue.language(), liked)


def sheet_of(client: Client, nights: NightStore, evaluation: BlindEvaluation) -> str:
    """Returns the blind pairs as one HTML file."""
    prompts = prompts_of(nights, evaluation)
    pairs = [blind_pairs.Pair(prompts[pair.place], 0, pair.unit_left) for pair in evaluation.pairs()]
    images = [(client.artifacts.get(pair.unit), client.artifacts.get(pair.against)) for pair in evaluation.pairs()]
    return blind_pairs.page(pairs, images, "konomi night verdict --answers")


def prompts_of(nights: NightStore, evaluation: BlindEvaluation) -> list[str]:
    """Returns the prompt of every evaluation image of a night."""
    request = nights.request(evaluation.night)
    settings = night_settings().recorded(request.settings)
    return [draw.prompt for draw in evaluation_draws(request.seed, request.evaluation_prompts, settings)]


def _ask(client: Client, nights: NightStore, evaluation: BlindEvaluation, keys: Keys) -> None:
    """Shows pair after pair and notes a key for each, until q or the last pair."""
    pairs, prompts, way = evaluation.pairs(), prompts_of(nights, evaluation), way_here()
    note(text(HELP))
    with tempfile.TemporaryDirectory(prefix="konomi-verdict-") as folder:
        while not evaluation.done:
            due = next(place for place in range(len(pairs)) if place not in evaluation.answers())
            pair = pairs[due]
            note(text("pair {n} of {of}: {prompt}", n=due + 1, of=len(pairs), prompt=prompts[pair.place]))
            for side, digest in (("left", pair.left), ("right", pair.right)):
                note(text(side))
                show(client.artifacts.get(digest), rater.Image(digest=digest), Path(folder), way)
            key = next(keys, "q")
            if key == "q":
                return
            if key in KEYS:
                evaluation.answer(due, KEYS[key])
            elif key == "z" and due:
                evaluation.answer(due - 1, "")
            else:
                note(text(HELP))


def _choose(evaluation: BlindEvaluation, keys: Keys) -> str:
    """Says what the pairs told and returns the decision a key takes; "" for later."""
    if not evaluation.done:
        return ""
    for line in lines(evaluation.summary())[:-1]:
        note(line)
    note(text("k keep · b roll back · any other key: later"))
    return {"k": KEEP, "b": ROLL_BACK}.get(next(keys, "q"), "")


def lines(summary: VerdictSummary) -> list[str]:
    """Returns a verdict as lines for people."""
    if not summary.pairs:
        return [text("this night changed nothing that could be judged")]
    unit, against = (_name(served.unit) for served in (summary.unit, summary.against))
    tally = summary.tally
    if tally is None:
        sentences = [
            text("{answered} of {pairs} blind pairs answered", answered=summary.answered, pairs=summary.pairs),
            text("shown on the page, with --sheet FILE, or in a terminal by: konomi night verdict"),
        ]
    else:
        rate = {key: percent(tally.win_rate[key]) for key in ("value", "low", "high")}
        sentence = "you chose {unit} over {against} in {wins} of {pairs} pairs, {ties} equal: {value} ({low} to {high})"
        counts = {"wins": tally.wins, "ties": tally.ties, "pairs": summary.pairs}
        sentences = [text(sentence, unit=unit, against=against, **counts, **rate), text(ADVICE[tally.advice])]
    return [*sentences, text(DECISIONS[summary.decision], unit=unit, against=against)]


ADVICE = {
    ROLL_BACK: "the new unit surely loses: roll it back",
    KEEP: "the new unit surely wins: keep it",
    OPEN: "the pairs cannot tell which is better: keep what you like to look at",
}
"""What the pairs advise, by its name."""

DECISIONS = {
    OPEN: "not decided yet: --keep or --roll-back",
    KEEP: "decided: {unit} is kept",
    ROLL_BACK: "decided: rolled back to {against}",
}
"""What the owner decided, by its name."""


def _name(unit: int) -> str:
    return f"unit-{unit}" if unit else text("the base model")
