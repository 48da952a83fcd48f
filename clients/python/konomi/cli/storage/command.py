"""`konomi storage [collect | migrate]`: what lies on the disk, what may go by the owner's policy, and letting it go."""

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from konomi.cli.console import Json, emit, note, say, table
from konomi.cli.storage import leftovers, survey
from konomi.cli.storage.leftovers import DemoHome, DiskSpace
from konomi.cli.storage.migrate import migrate
from konomi.cli.storage.survey import Survey
from konomi.errors import FailedPrecondition
from konomi.home import Home
from konomi.host import extras
from konomi.host.session import Session, open_session
from konomi.i18n.catalogue import text
from konomi.night.records.store import NightStore
from konomi.night.retention import StorageSettings, Taken, collect_checkpoints, collect_images, kept

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.command()(migrate)

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@app.callback()
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show what lies on the disk by kind, what may go now by the policy, and why the rest stays. Changes nothing.

    The policy stands in konomi.toml under [storage]. Works whether konomi runs or not.

    Example: konomi storage
    """
    if context.invoked_subcommand is not None:
        return
    home, settings = Home.locate(), StorageSettings(home=Home.locate().root)
    with _session(home) as session:
        seen = survey.look(
            session.client, home.root, kept(session.client, NightStore(home.root)), settings, time.time()
        )
    if as_json:
        emit(_plain(home.root, settings, seen))
        return
    rows = [
        (text(line.kind), str(line.space.count), size(line.space.size), _may_go(line.may_go), survey.words(line))
        for line in seen.lines
    ]
    table(("what", "number", "size", "may go", "why the rest stays"), rows)
    if seen.collected:
        say(text("without pixels, their records kept: {count} images", count=seen.collected))
    for line in _policy(settings):
        say(line)
    free = shutil.disk_usage(home.root).free
    say(text("free on the disk: {size}; let go what may go: konomi storage collect", size=size(free)))


@app.command()
def collect(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and let nothing go.")] = False,
    as_json: Json = False,
) -> None:
    """Let go what the policy lets go: pixels of rejected candidates, superseded checkpoints, old caches, demo homes.

    What is graded, compared, audited, selected or named by a night stays, and every record and embedding does.

    Example: konomi storage collect --dry-run
    """
    home, settings = Home.locate(), StorageSettings(home=Home.locate().root)
    with _session(home) as session:
        keep = kept(session.client, NightStore(home.root))
        images = _or_left(lambda: collect_images(session.client, keep, settings, dry=dry_run))
        checkpoints = _or_left(lambda: collect_checkpoints(session.client, settings, dry=dry_run))
    now = time.time()
    caches = leftovers.old_caches(home.root, settings.cache_days, now, remove=not dry_run)
    going = leftovers.old_demos(leftovers.demo_homes(home.root), settings, now)
    demos = going if dry_run else [demo for demo in going if leftovers.remove_demo(demo)]
    report = Collected(dry_run, images, checkpoints, caches, demos)
    if as_json:
        emit(report.plain())
        return
    for line in report.lines():
        say(line)


@dataclass(frozen=True)
class Collected:
    """What one collection took, or would take."""

    dry: bool
    images: Taken
    checkpoints: Taken
    caches: DiskSpace
    demos: list[DemoHome]

    def plain(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        demos = _space(self._demo_space())
        return {
            "dry_run": self.dry,
            "images": _taken(self.images),
            "checkpoints": _taken(self.checkpoints),
            "caches": _space(self.caches),
            "demo_homes": {**demos, "folders": [str(demo.path) for demo in self.demos]},
        }

    def lines(self) -> list[str]:
        """Returns it in words."""
        parts = (
            (text("rejected candidates"), DiskSpace(self.images.count, self.images.size)),
            (text("superseded checkpoints"), DiskSpace(self.checkpoints.count, self.checkpoints.size)),
            (text("cached files"), self.caches),
            (text("demo homes"), self._demo_space()),
        )
        sentence = "would go: {what}: {count}, {size}" if self.dry else "gone: {what}: {count}, {size}"
        words = [text(sentence, what=what, count=space.count, size=size(space.size)) for what, space in parts]
        return words + [f"  {demo.path}" for demo in self.demos]

    def _demo_space(self) -> DiskSpace:
        return DiskSpace(len(self.demos), sum(demo.space.size for demo in self.demos))


def size(count: int) -> str:
    """Returns bytes in words: "1.5 GiB"."""
    amount, unit = float(count), 0
    while amount >= 1024 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f} {UNITS[unit]}" if unit else f"{count} {UNITS[0]}"


def _session(home: Home) -> AbstractContextManager[Session]:
    extras.require("rater", "generator", "trainer")
    if not home.is_up():
        note(text("starting on {home}, which takes some seconds…", home=home.root))
    return open_session(home)


def _or_left(work: Callable[[], Taken]) -> Taken:
    """Returns what went; where the store is no folder of this machine nothing did, which is said and is no failure."""
    try:
        return work()
    except FailedPrecondition as error:
        if error.reason != "STORE_ELSEWHERE":
            raise
        note(error.message)
        return Taken()


def _may_go(space: DiskSpace) -> str:
    return f"{space.count} ({size(space.size)})" if space.count else "–"


def _policy(settings: StorageSettings) -> list[str]:
    """Returns the policy in sentences."""
    ages = (
        (text("rejected candidates"), settings.rejected_days),
        (text("superseded checkpoints"), settings.checkpoint_days),
        (text("cached files"), settings.cache_days),
        (text("demo homes"), settings.demo_days),
    )
    lines = [
        text("{what} go after {days:g} days", what=what, days=days) if days else text("{what} never go", what=what)
        for what, days in ages
    ]
    units = text("the newest {count} units stay whole", count=settings.keep_units)
    return [text("policy ([storage] in {file}): {lines}", file="konomi.toml", lines="; ".join([*lines, units]))]


def _space(space: DiskSpace) -> dict[str, int]:
    return {"count": space.count, "bytes": space.size}


def _taken(taken: Taken) -> Mapping[str, object]:
    return {"count": taken.count, "bytes": taken.size, "digests": taken.digests}


def _plain(home: Path, settings: StorageSettings, seen: Survey) -> dict[str, Any]:
    """Returns the survey as JSON has it; names are the contract's."""
    return {
        "home": str(home),
        "free_bytes": shutil.disk_usage(home).free,
        "policy": settings.model_dump(mode="json", exclude={"home"}),
        "kinds": [
            {"kind": line.kind, **_space(line.space), "may_go": _space(line.may_go), "stays": line.stays}
            for line in seen.lines
        ],
        "collected_images": seen.collected,
        "images": {kind: {"count": count, "bytes": size} for kind, (count, size) in seen.images.kinds.items()},
        "checkpoints": {
            kind: {"count": count, "bytes": size} for kind, (count, size) in seen.checkpoints.kinds.items()
        },
        "demo_homes": [
            {"folder": str(demo.path), "bytes": demo.space.size, "in_use": demo.held} for demo in seen.demos
        ],
    }
