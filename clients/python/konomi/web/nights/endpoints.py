"""The page's view on nights: plan, start, follow, stop and judge them, through the same commands a terminal has."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from pydantic import ValidationError

from konomi import errors
from konomi.client import Client
from konomi.errors import InvalidArgument, KonomiError
from konomi.files import canonical, read_json
from konomi.home import Home
from konomi.host.logs import last_lines, turn_over
from konomi.host.supervisor import readable_line
from konomi.i18n import catalogue
from konomi.night import verdict
from konomi.night.alarms import fate_of, work
from konomi.night.engine.preparation import plan_of
from konomi.night.metrics import Estimate
from konomi.night.records.fit import CheckpointChoice
from konomi.night.records.record import Record
from konomi.night.records.state import Scores, Served, StateName, UnitRecord
from konomi.night.records.store import NightStore
from konomi.night.remaining import UnderWay, share_done
from konomi.night.report.status import NightSummary, reasons_of, summary_of
from konomi.night.systems.registry import SYSTEMS, night_settings
from konomi.night.verdict import KEEP, ROLL_BACK, SAMPLE, BlindEvaluation, Decision, Tally
from konomi.web.nights import form as night_form
from konomi.web.responses import Asked, measure, number, text

NIGHT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
WHOLE = {"units": 10, "images": 10_000, "budget_images": 10_000_000}
BROKEN = {"hours": 1000.0, "gpu_hours": 1000.0, "disk": 100_000.0, "contrast": 4.0}
"""What a night may be asked for, and its most; `disk` in GiB."""
NIGHT_SETTINGS = {
    "hours": "budget_hours", "gpu_hours": "budget_gpu_hours", "disk": "budget_disk_gib", "contrast": "contrast_beta",
}  # fmt: skip
"""The setting of a night each of these is, where it has another name."""
DIGEST = re.compile(r"[0-9a-f]{64}")
EXAMPLES = 4
"""Images shown of each reason of rejection."""
LOOK_SECONDS = 30.0
"""How long a new night is watched for a refusal before it counts as begun."""
COMMAND_SECONDS = 120.0


class NightName(TypedDict):
    """The reply that names a night."""

    night: str | None


class ReportPath(TypedDict):
    """The reply that says where a report is."""

    path: str


class NightLine(TypedDict):
    """One night in the list of them; `why` only where it cannot be read."""

    night: str
    system: str
    state: str
    units: int
    images: int
    began: float
    why: NotRequired[str]


class RejectedShown(Record):
    """Why images of a unit were not selected, in the reader's language: how many, and some of them."""

    reason: str
    count: int
    examples: tuple[str, ...]


class LogLines(TypedDict):
    """The reply that holds the last lines of the log."""

    lines: list[str]


class UnitFigures(Record):
    """What the page shows of a unit, as the night recorded it; None for what is not known yet."""

    unit: int
    model: str | None
    wins: Estimate | None
    wins_base: Estimate | None
    scores: Scores | None
    parent: int | None
    decision: str | None
    sample: tuple[str, ...]
    selected: int | None
    rejected: tuple[RejectedShown, ...]
    checkpoints: CheckpointChoice | None


class NightDetail(NightSummary):
    """A night's summary, and what the page alone shows of it; `drafts` says that the newest images are drafts."""

    taste: str
    seed: int
    wanted_units: int
    doing: str
    sentences: tuple[str, ...]
    figures: tuple[UnitFigures, ...]
    share: float
    stopping: bool
    newest: tuple[str, ...]
    drafts: bool


class Nights(TypedDict):
    """The nights of a home, newest first, and one of them in detail, as `NightDetail` has it."""

    nights: list[NightLine]
    night: Mapping[str, object] | None


class PairShown(Record):
    """One blind pair: the image on each side, and the answer so far."""

    left: str
    right: str
    answer: str | None


class VerdictShown(Record):
    """A night's verdict; the sides are told once every pair is answered."""

    answered: int
    unit: Served
    against: Served
    tally: Tally | None
    audit: str | None
    decision: str
    decisions: tuple[Decision, ...]
    pairs: tuple[PairShown, ...]
    sides: tuple[str, ...] | None


class SystemTile(TypedDict):
    """One system on the page."""

    name: str
    title: str
    note: str


class SystemTiles(TypedDict):
    """What the page draws its tiles from."""

    systems: list[SystemTile]


def _no_pictures(digest: str) -> bytes:
    """Returns no picture: nobody said where they are."""
    raise errors.NotFound(catalogue.text("there is no picture {digest} here", digest=digest[:12]), field="images")


class NightEndpoints:
    """The nights of one home, as the page's endpoints."""

    def __init__(self, home: Home, fetch: Callable[[str], bytes] = _no_pictures) -> None:
        """Takes the home, and what returns the bytes of an image of it."""
        self._home, self._fetch = home, fetch
        self._nights = NightStore(home.root)
        self._begun: list[subprocess.Popen[bytes]] = []
        self._furthest: dict[str, float] = {}

    def systems(self, asked: Asked) -> SystemTiles:
        """Endpoint: the systems a night can run, each with its title and note in the reader's language."""
        with catalogue.speaking(text(asked, "language", "en")):
            tiles = [
                SystemTile(name=name, title=catalogue.text(system.title), note=catalogue.text(system.note))
                for name, system in SYSTEMS.items()
            ]
        return {"systems": tiles}

    def plan(self, asked: Asked) -> Mapping[str, object]:
        """Endpoint: what a night would make and take."""
        options = {NIGHT_SETTINGS.get(name, name): value for name, value in _amounts(asked).items()}
        base = night_form.base_of(asked)
        return plan_of(self._home.root, night_form.system_of(asked), base_model=base, **options).plain()

    def start(self, asked: Asked) -> NightName:
        """Endpoint: starts a night that outlives the page."""
        return self.begin("night", "start", *self.words(asked))

    def words(self, asked: Asked) -> list[str]:
        """Returns a night as the command line asks for it, the system first.

        Raises:
            InvalidArgument: something of it cannot be used.
        """
        taste = text(asked, "taste", "tastes/default").removeprefix("tastes/")
        if not re.fullmatch(r"[a-z0-9-]{1,40}", taste):
            raise errors.InvalidArgument(catalogue.text('expected "tastes/{id}"'), field="taste")
        seed = number(asked, "seed", 0, 0, 2**31)
        words = [*_options(asked), *night_form.options(asked, self._home, self._fetch)]
        return [night_form.system_of(asked), *words, "--taste", taste, "--seed", str(seed)]

    def resume(self, asked: Asked) -> NightName:
        """Endpoint: goes on with the unfinished night."""
        return self.begin("night", "resume")

    def stop(self, asked: Asked) -> NightName:
        """Endpoint: asks the night that runs to end after its step."""
        night = self._nights.unfinished()
        if night is None:
            raise errors.NotFound(catalogue.text("there is no unfinished night"))
        self._nights.ask_to_stop(night)
        return {"night": night}

    def status(self, asked: Asked) -> Nights:
        """Endpoint: the nights of this home, and one of them in detail."""
        self._begun = [child for child in self._begun if child.poll() is None]
        ids = self._nights.all()
        chosen = text(asked, "night") or (ids[-1] if ids else "")
        listed = [self._line(night) for night in reversed(ids)]
        listed += [_lost(night, why) for night, why in self._nights.damaged().items()]
        if not chosen:
            return {"nights": listed, "night": None}
        return {"nights": listed, "night": self._detail(chosen, text(asked, "language", "en")).plain()}

    def log(self, asked: Asked) -> LogLines:
        """Endpoint: the last lines of what the nights begun on the page wrote, as text."""
        return {"lines": last_lines(self._home.log("night"))}

    def report(self, asked: Asked) -> ReportPath:
        """Endpoint: makes the report of a night where there is none since its verdict, and says where it is."""
        night = self._known(text(asked, "night"))
        file = self.report_file(night)
        verdict = None
        with suppress(OSError, ValueError):
            verdict = read_json(file.with_suffix(".json")).get("verdict")
        now, language = BlindEvaluation(self._nights, night).summary().plain(), text(asked, "language", "en")[:2]
        if not _begins_in(file, language) or canonical(verdict) != canonical(now):
            self.run("night", "report", "--night", night, "--json", "--lang", language)
        return {"path": f"/report/{night}"}

    def report_file(self, night: str) -> Path:
        """Returns where the report of a night is kept."""
        return self._home.root / "report" / f"{night}.html"

    def folder(self, night: str) -> Path:
        """Returns the folder of a night there is."""
        return self._nights.folder / self._known(night)

    def _known(self, night: str) -> str:
        if NIGHT.fullmatch(night) and night in self._nights.damaged():
            self._nights.request(night)  # which says why it cannot be read
        if not NIGHT.fullmatch(night) or night not in self._nights.all():
            raise errors.NotFound(catalogue.text("there is no such night in this home"))
        return night

    def _line(self, night: str) -> NightLine:
        state = self._nights.state(night)
        return {
            "night": night,
            "system": state.system,
            "state": state.state,
            "units": sum(unit.parent is not None for unit in state.units),
            "images": state.images,
            "began": self._nights.began(night),
        }

    def _detail(self, night: str, language: str) -> NightDetail:
        request = self._nights.request(self._known(night))
        settings = self._settings(night, request.settings)
        summary, state = summary_of(self._nights, night), self._nights.state(night)
        with catalogue.speaking(language):
            figures = tuple(_figures(unit) for unit in state.units)
        return NightDetail(
            **dict(summary),
            taste=request.taste,
            seed=request.seed,
            wanted_units=settings["units"],
            doing=work(summary.step, language) if summary.step else "",
            sentences=tuple(reason.told(language) for reason in reasons_of(state, self._nights.trial(night))),
            figures=figures,
            share=self._share(night, share_done(request, state, UnderWay(summary.step or "", summary.done or 0))),
            stopping=summary.running and self._nights.stop_asked(night),
            newest=tuple(
                made
                for made in self._nights.progress(night).get("made", [])
                if isinstance(made, str) and DIGEST.fullmatch(made)
            ),
            drafts=self._nights.progress(night).get("drafts", False),
        )

    def _settings(self, night: str, recorded: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the settings of a night, with the defaults of those its version did not record.

        Raises:
            FailedPrecondition: one of them is no setting (reason NIGHT_DAMAGED).
        """
        settings = night_settings()
        try:
            return settings.recorded(settings.completed(recorded)).model_dump()
        except ValidationError as error:
            raise self._nights.unreadable(night) from error

    def _share(self, night: str, share: float) -> float:
        """Returns how much of a night is done; a step that starts small again never takes it back."""
        self._furthest[night] = max(share, self._furthest.get(night, 0.0))
        return self._furthest[night]

    def run(self, *arguments: str) -> None:
        """Runs a command to its end.

        Raises:
            FailedPrecondition: it was refused, in its last words.
        """
        done = subprocess.run(
            self._command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS
        )
        if done.returncode != 0:
            raise errors.FailedPrecondition(_last_words(done.stderr))

    def begin(self, *arguments: str) -> NightName:
        """Runs a command that outlives the page, and returns once its night runs.

        Raises:
            FailedPrecondition: it was refused, in its last words.
        """
        log = self._home.log("night")
        log.parent.mkdir(parents=True, exist_ok=True)
        turn_over(log)
        with log.open("ab") as file:
            begins = file.tell()
            child = subprocess.Popen(
                self._command(*arguments, "--json", *_spoken()),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # a night goes on when the page ends
            )
        self._begun.append(child)
        deadline = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < deadline and child.poll() is None and not self._runs():
            time.sleep(0.1)
        if child.poll() not in (None, 0):
            with log.open("rb") as file:
                file.seek(begins)
                raise errors.FailedPrecondition(_last_words(file.read()))
        return {"night": self._nights.latest()}

    def _runs(self) -> bool:
        """Says whether a night is under way: its process holds the lock, and its request is written."""
        return self._nights.runner() is not None and self._nights.unfinished() is not None

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "konomi", *arguments, "--home", str(self._home.root)]


def _begins_in(report: Path, language: str) -> bool:
    """Says whether there is a report that shows a language first."""
    with suppress(OSError), report.open("rb") as file:
        return f'<html lang="{language}">'.encode() in file.read(200)
    return False


def _lost(night: str, why: str) -> NightLine:
    """Returns the line of a night whose request cannot be read."""
    return {
        "night": night, "system": "", "state": StateName.DAMAGED, "units": 0, "images": 0, "began": 0.0, "why": why,
    }  # fmt: skip


def _figures(unit: UnitRecord) -> UnitFigures:
    return UnitFigures(
        unit=unit.unit,
        model=unit.model if unit.has("model") else None,
        wins=unit.wins if unit.has("wins") else None,
        wins_base=unit.wins_base if unit.has("wins_base") else None,
        scores=unit.scores,
        parent=unit.parent,
        decision=unit.decision if unit.has("decision") else None,
        sample=unit.evaluation[:SAMPLE],
        selected=unit.selection.n if unit.selection is not None else None,
        rejected=_rejected(unit),
        checkpoints=unit.checkpoints,
    )


def _rejected(unit: UnitRecord) -> tuple[RejectedShown, ...]:
    """Returns what was turned away from, then why others were not selected, the most frequent reason first."""
    if unit.selection is None:
        return ()
    met = sorted(unit.selection.rejected.items(), key=lambda pair: -pair[1].count)
    return tuple(
        RejectedShown(reason=fate_of(name), count=rejection.count, examples=rejection.examples[:EXAMPLES])
        for name, rejection in (*unit.selection.avoided.items(), *met)
    )


def _spoken() -> list[str]:
    """Returns the option that makes a command speak the reader's language; English needs none."""
    language = catalogue.language()
    return [] if language == catalogue.SOURCE else ["--lang", language]


def _amounts(asked: Asked) -> dict[str, float]:
    """Returns what was asked of a night's size and budgets, each within its bounds."""
    whole = {name: number(asked, name, 0, 1, high) for name, high in WHOLE.items() if asked.get(name) is not None}
    broken = {name: measure(asked, name, 0.001, high) for name, high in BROKEN.items() if asked.get(name) is not None}
    return whole | broken


def _options(asked: Asked) -> list[str]:
    """Returns the same as options of the command line."""
    pairs = [(f"--{name.replace('_', '-')}", f"{value:.12g}") for name, value in _amounts(asked).items()]
    return [word for pair in pairs for word in pair]


def _last_words(said_by: bytes) -> str:
    lines = [line for line in said_by.decode(errors="replace").strip().splitlines() if line.strip()]
    return (
        readable_line(lines[-1]).removeprefix("konomi: ")[:500] if lines else catalogue.text("the command said nothing")
    )


class Verdicts:
    """Keeps the owner's answers beside the night, and hands them to the rater once all are given."""

    def __init__(self, endpoints: NightEndpoints, client: Callable[[], Client]) -> None:
        self._nights, self._client = endpoints, client

    def pairs(self, asked: Asked) -> Mapping[str, object]:
        """Endpoint: the pairs of a night, without a word about which side is which, and the tally once all are told."""
        return self._verdict_shown(self._verdict(asked))

    def answer(self, asked: Asked) -> Mapping[str, object]:
        """Endpoint: notes one answer durably; the same answer twice is one answer."""
        evaluation = self._verdict(asked)
        evaluation.answer(number(asked, "pair", -1, -1, 10_000), text(asked, "choice"))
        return self._verdict_shown(evaluation)

    def decide(self, asked: Asked) -> Mapping[str, object]:
        """Endpoint: keeps the unit, or returns to what was served before the night in one transaction."""
        decision = text(asked, "decision")
        if decision not in (KEEP, ROLL_BACK):
            raise InvalidArgument(
                catalogue.text("expected {keep} or {back}", keep=KEEP, back=ROLL_BACK), field="decision"
            )
        evaluation = self._verdict(asked)
        verdict.decide(self._client(), evaluation, decision, time.time())
        return self._verdict_shown(evaluation)

    def _verdict(self, asked: Asked) -> BlindEvaluation:
        folder = self._nights.folder(text(asked, "night"))
        return BlindEvaluation(NightStore(folder.parent.parent), folder.name)

    def _verdict_shown(self, evaluation: BlindEvaluation) -> dict[str, Any]:
        pairs, answers, done = evaluation.pairs(), evaluation.answers(), evaluation.done
        if done and not evaluation.kept.audit:
            with suppress(KonomiError):  # the answers are safe in their file; the next look hands them over
                verdict.hand_over(self._client(), evaluation)
        summary = evaluation.summary()
        shown = VerdictShown(
            answered=summary.answered,
            unit=summary.unit,
            against=summary.against,
            tally=summary.tally,
            audit=summary.audit,
            decision=summary.decision,
            decisions=summary.decisions,
            pairs=tuple(
                PairShown(left=pair.left, right=pair.right, answer=answers.get(place))
                for place, pair in enumerate(pairs)
            ),
            sides=tuple("left" if pair.unit_left else "right" for pair in pairs) if done else None,
        )
        return shown.plain()
