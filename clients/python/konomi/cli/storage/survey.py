"""What lies on the disk of a home by kind, what of it may go by the policy, and why the rest stays."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from konomi.cli.storage import leftovers
from konomi.cli.storage.leftovers import DemoHome, DiskSpace, space_of
from konomi.client import Client
from konomi.client.paging import pages
from konomi.i18n.catalogue import N_, text
from konomi.night.retention import Kept, StorageSettings, Taken, collect_checkpoints, collect_images

GROUPS: Mapping[str, tuple[str, ...]] = {
    N_("images graded"): ("graded", "panel", "compared", "audited", "certified", "laid_out"),
    N_("images selected"): ("selected", "parent"),
    N_("images rejected"): (
        "rejected",
        "recent",
        "newest_units",
        "in_use",
        "night_under_way",
        "embedder_changing",
        "other_taste",
        "elsewhere",
    ),
    N_("other images"): ("imported", "base", "single"),
}
"""Rows of the survey to the kinds of images in them, by the contract's names."""

WHY = {
    "graded": N_("graded"),
    "panel": N_("in the panel"),
    "compared": N_("compared"),
    "audited": N_("audited"),
    "certified": N_("in a certified set"),
    "laid_out": N_("shown in a slate"),
    "selected": N_("named by a manifest or a night"),
    "parent": N_("another image was made from it"),
    "recent": N_("younger than the policy says"),
    "newest_units": N_("of the newest units"),
    "in_use": N_("used within a day"),
    "night_under_way": N_("of a night under way"),
    "embedder_changing": N_("the embedder is being changed, or a second one has not seen them yet"),
    "other_taste": N_("needed by another taste"),
    "elsewhere": N_("the store is no folder of this machine"),
    "imported": N_("not made here"),
    "base": N_("made by the base model"),
    "single": N_("made outside a night"),
    "model": N_("a model"),
    "unfinished": N_("of a run that has not succeeded"),
}
"""Why something stays, for people."""


DIGEST_LETTERS = 64


@dataclass(frozen=True)
class SurveyLine:
    """One kind of thing on the disk.

    Attributes:
        kind: what it is.
        space: how many, and their bytes.
        may_go: how many of them may go, and their bytes.
        stays: why others stay, by the contract's names or in words, with how many.
    """

    kind: str
    space: DiskSpace
    may_go: DiskSpace
    stays: dict[str, int]


@dataclass(frozen=True)
class Survey:
    """All of a home: the lines, the images without pixels, and what the services and the disk say may go."""

    lines: list[SurveyLine]
    collected: int
    images: Taken
    checkpoints: Taken
    demos: list[DemoHome]


def look(client: Client, home: Path, keep: Kept, settings: StorageSettings, now: float) -> Survey:
    """Looks at everything and changes nothing."""
    images = collect_images(client, keep, settings, dry=True)
    checkpoints = collect_checkpoints(client, settings, dry=True)
    demos = leftovers.demo_homes(home)
    lines = [_images(name, kinds, images.kinds) for name, kinds in GROUPS.items()]
    lines += [_adapters(client, home), _checkpoints(checkpoints.kinds)]
    known = DiskSpace()
    for line in lines:
        known += line.space
    lines.append(_whole(N_("other artifacts"), _rest(_artifacts(home), known), N_("rater versions, sheets, sets")))
    lines += _of_the_home(home, settings, now)
    going = leftovers.old_demos(demos, settings, now)
    lines.append(SurveyLine(N_("demo homes"), _spaces(demos), _spaces(going), _why_demos(demos, going)))
    return Survey(lines, images.kinds.get("collected", (0, 0))[0], images, checkpoints, demos)


def _images(name: str, kinds: Iterable[str], sizes: Mapping[str, tuple[int, int]]) -> SurveyLine:
    there = {kind: DiskSpace(*sizes[kind]) for kind in kinds if kind in sizes}
    space = sum(there.values(), DiskSpace())
    stays = {kind: part.count for kind, part in there.items() if kind != "rejected"}
    return SurveyLine(name, space, there.get("rejected", DiskSpace()), stays)


def _adapters(client: Client, home: Path) -> SurveyLine:
    digests = {model.adapter_digest for page in pages(client.trainer.list_models) for model in page.models}
    paths = (home / "artifacts" / digest[:2] / digest for digest in digests - {""})
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    return SurveyLine(N_("adapters"), DiskSpace(len(sizes), sum(sizes)), DiskSpace(), {"model": len(sizes)})


def _checkpoints(kinds: Mapping[str, tuple[int, int]]) -> SurveyLine:
    there = {kind: DiskSpace(*size) for kind, size in kinds.items() if kind not in ("model", "collected", "absent")}
    stays = {kind: part.count for kind, part in there.items() if kind != "superseded"}
    return SurveyLine(N_("checkpoints"), sum(there.values(), DiskSpace()), there.get("superseded", DiskSpace()), stays)


def _of_the_home(home: Path, settings: StorageSettings, now: float) -> list[SurveyLine]:
    caches = sum((space_of(home.joinpath(*parts)) for parts in leftovers.CACHES), DiskSpace())
    old = leftovers.old_caches(home, settings.cache_days, now, remove=False)
    return [
        _whole(N_("unfinished runs"), space_of(home / "checkpoints"), N_("they go on from here")),
        SurveyLine(N_("caches"), caches, old, {"recent": caches.count - old.count} if caches.count > old.count else {}),
        _whole(N_("base models"), space_of(home / "models"), N_("everything starts from them")),
        _whole(N_("databases"), space_of(home / "databases"), N_("grades, embeddings and records stay for ever")),
        _whole(N_("nights"), space_of(home / "nights"), N_("records stay for ever")),
        _whole(N_("logs"), space_of(home / "logs"), N_("they are kept small by themselves")),
    ]


def _whole(kind: str, space: DiskSpace, why: str) -> SurveyLine:
    return SurveyLine(kind, space, DiskSpace(), {why: space.count} if space.count else {})


def _artifacts(home: Path) -> DiskSpace:
    """Returns the artifacts of a home and their bytes; beside each lies a small file with its type."""
    count = size = 0
    for entry in leftovers.regular_files(home / "artifacts"):
        with suppress(FileNotFoundError):
            size += entry.stat(follow_symlinks=False).st_size
            count += len(entry.name) == DIGEST_LETTERS
    return DiskSpace(count, size)


def _rest(all_artifacts: DiskSpace, known: DiskSpace) -> DiskSpace:
    """Returns what lies in the store beside images and adapters."""
    return DiskSpace(max(0, all_artifacts.count - known.count), max(0, all_artifacts.size - known.size))


def _spaces(some: list[DemoHome]) -> DiskSpace:
    return DiskSpace(len(some), sum(demo.space.size for demo in some))


def _why_demos(demos: list[DemoHome], going: list[DemoHome]) -> dict[str, int]:
    held = sum(demo.held for demo in demos)
    young = len(demos) - len(going) - held
    return {name: count for name, count in (("in use", held), ("recent", young)) if count}


def words(line: SurveyLine) -> str:
    """Returns why the rest of a line stays, in the language in use."""
    return ", ".join(
        f"{text(WHY.get(why, why))} ({count})" if len(line.stays) > 1 else text(WHY.get(why, why))
        for why, count in line.stays.items()
        if count
    )
