"""`konomi compare --adapters`: a folder of LoRA checkpoints ranked by the taste, with blind pairs of the two best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, progress, say, table
from konomi.cli.models.compare import MOST_IMAGES, PROMPTS, key_file, span, verdict
from konomi.client import Client
from konomi.client.services import taste_name
from konomi.errors import InvalidArgument
from konomi.evaluation import adapters, blind_pairs
from konomi.evaluation.adapters import BASE, AdapterJudgement, Comparison, Contestant, Until
from konomi.evaluation.base_models import require_rater
from konomi.files import open_regular, write_atomically, write_for_user
from konomi.home import Home
from konomi.host import extras
from konomi.i18n.catalogue import N_, listing, percent, plural, text
from konomi.night.gateway.services import NightServices
from konomi.taste.prompts import kept

SHEET = Path("adapters.html")
MEDIA_TYPE = "application/vnd.konomi.adapter+safetensors"
MOST_ADAPTERS = 64
MOST_BYTES = 8 << 30


@dataclass(frozen=True)
class _Attached:
    """Holds one client as `NightServices` asks for it."""

    client: Client


Folder = Annotated[
    Path | None, typer.Option("--adapters", metavar="DIR", help="A folder of LoRA files, .safetensors each.")
]
Base = Annotated[str, typer.Option("--base", metavar="NAME", help="The base model of all; the taste's own otherwise.")]
Count = Annotated[int, typer.Option("--images", min=8, max=MOST_IMAGES, help="Images of each at most.")]
Sure = Annotated[Until, typer.Option("--until", help="What has to be sure before an adapter is drawn no more.")]
Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", help="A prompt; may be given again. Default: those of the taste.")
]
Pairs = Annotated[int, typer.Option(min=1, max=MOST_IMAGES, help="Blind pairs of the two best at most.")]
Answers = Annotated[str, typer.Option(metavar="LRT...", help="Judge: the answers the blind sheet shows.")]


def compare(
    folder: Folder = None,
    base: Base = "",
    count: Count = 64,
    prompt: Prompts = None,
    seed: Annotated[int, typer.Option(help="Seed of images and sides.")] = 0,
    pairs: Pairs = 20,
    answers: Answers = "",
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the sheet.")] = SHEET,
    taste: TasteId = "default",
    as_json: Json = False,
    until: Sure = "order",
) -> None:
    """Rank anybody's LoRA checkpoints on one base model by the taste: equal prompts and seeds, each with its doubt.

    The base model alone takes part as "base". What is surely before or behind its neighbours is drawn no more; with
    --until best, what is surely behind the first, which takes fewer images and leaves the order of the others open.
    Beside the sheet lies one of blind pairs of the two best; give its answers to konomi compare --answers.

    Example: konomi compare --adapters ~/loras --base sdxl
    """
    blind = out.with_name(f"{out.stem}-pairs.html")
    if answers:
        return verdict(key_file(blind), answers, as_json)
    if folder is None:
        line = "name the folder of the adapters with --adapters; two units are compared by konomi models compare A B"
        raise InvalidArgument(text(line), field="adapters")
    files = _files(folder)
    extras.require_page()
    with attached() as client:
        gateway = NightServices(_Attached(client), taste_name(taste))
        base = base or gateway.state().base_model
        asked = list(prompt or kept(Home.locate().root, taste))
        found = _compared(gateway, base, files, asked, count, seed, until)
        write_for_user(out, _sheet(found, base, taste, client.artifacts.get).encode())
        shown = _write_pairs(found, blind, pairs, seed, client.artifacts.get)
    if as_json:
        return emit(_plain(found, base, out, blind))
    return _show(found, out, blind, shown)


def _plain(found: Comparison, base: str, sheet: Path, blind: Path) -> dict[str, object]:
    """Returns a comparison as JSON has it."""
    return {
        "sheet": str(sheet),
        "pairs": str(blind),
        "key": str(key_file(blind)),
        "base_model": base,
        "images": found.images,
        "until": found.until,
        "stopped_early": found.stopped_early,
        "refused": found.refused,
        "adapters": found.judgements,
    }


def _show(found: Comparison, sheet: Path, blind: Path, pairs: int) -> None:
    """Prints a comparison for people."""
    table(("", "adapter", "score", "lower bound", "ahead of the next", "SSR or better", "images"), _rows(found))
    say(text("all of it in the rater's eyes: nobody looked at these images"))
    for line in advised(found):
        say(line)
    note(text("sheet: {file}", file=sheet))
    words = "{sheet}: {count} blind pairs; do not open {key} before you have judged"
    note(text(words, sheet=blind, count=pairs, key=key_file(blind)))


def _files(folder: Path) -> list[Path]:
    """Returns the adapters of a folder, by name.

    Raises:
        InvalidArgument: there is no such folder, or it holds fewer than one or too many.
    """
    if not folder.is_dir():
        raise InvalidArgument(
            text("expected a folder of adapters, there is none at {path}", path=folder), field="adapters"
        )
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if not 1 <= len(files) <= MOST_ADAPTERS:
        line = "expected 1 to {most} files NAME.safetensors in {path}, found {count}"
        raise InvalidArgument(text(line, most=MOST_ADAPTERS, path=folder, count=len(files)), field="adapters")
    return files


def _compared(
    gateway: NightServices, base: str, files: Sequence[Path], prompts: list[str], count: int, seed: int, until: Until
) -> Comparison:
    gateway.require_base(base)
    require_rater(gateway)
    contestants = [Contestant(BASE)]
    for path in files:
        with open_regular(path) as file:
            data = file.read(MOST_BYTES)
        contestants.append(Contestant(path.stem, gateway.client.artifacts.put(data, MEDIA_TYPE).digest))
    asked = prompts or gateway.prompts(PROMPTS) or [""]
    with progress(text("making images"), len(contestants) * count) as update:
        return adapters.compare(
            gateway, base, contestants, asked, count, seed, lambda done: update(completed=done), until
        )


def _write_pairs(found: Comparison, sheet: Path, count: int, seed: int, fetch: Callable[[str], bytes]) -> int:
    """Writes blind pairs of the two best and their key; returns how many pairs."""
    first, second = (judged["figures"]["digests"] for judged in found.judgements[:2])
    shared = min(len(first), len(second), count)
    planned = [
        replace(pair, prompt=words, seed=drawn)
        for pair, (words, drawn) in zip(blind_pairs.plan([""], shared, seed), found.draws, strict=False)
    ]
    images = [(fetch(one), fetch(other)) for one, other in zip(first[:shared], second[:shared], strict=True)]
    write_for_user(sheet, blind_pairs.page(planned, images, "konomi compare --answers").encode())
    names = [judged["adapter"] for judged in found.judgements[:2]]
    write_atomically(key_file(sheet), blind_pairs.key(names[0], names[1], planned).encode())
    return shared


def _rows(found: Comparison) -> list[Sequence[str]]:
    return [
        (
            str(judged["rank"]),
            judged["adapter"],
            span(judged["figures"]["utility"]),
            f"{judged['level']:.2f}",
            _ahead(judged),
            span(judged["figures"]["p_ssr"], share=True),
            str(judged["images"]),
        )
        for judged in found.judgements
    ]


def _ahead(judged: AdapterJudgement) -> str:
    if judged["ahead"] is None:
        return ""
    return span(judged["ahead"]) + ("" if judged["sure"] else " ?")


def advised(found: Comparison) -> list[str]:
    """Returns what follows from a comparison, and every warning."""
    best, second = found.judgements[:2]
    names = {"best": best["adapter"], "second": second["adapter"]}
    if best["sure"] and not best["figures"]["warning"]:
        lines = [text("in the rater's eyes {best} suits this taste best: surely better than {second}", **names)]
    else:
        ahead = "in the rater's eyes {best} is ahead, but {second} may be as good: judge the blind pairs"
        lines = [text(ahead, **names)]
    if found.stopped_early:
        whole = len(found.judgements) * len(found.draws)
        ordered = N_("{images} of {whole} images were drawn: the order of the others was sure without more")
        behind = N_("{images} of {whole} images were drawn: those left out are surely behind the best")
        line = ordered if found.until == "order" else behind
        lines.append(text(line, images=found.images, whole=whole))
    strange = [one["adapter"] for one in found.judgements if one["figures"]["warning"]]
    if strange:
        line = "many images of these are unlike anything known, so their scores are guesses: {names}"
        lines.append(text(line, names=listing(strange)))
    lines += [f"{name}: {why}" for name, why in found.refused.items()]
    if found.refused:
        count = len(found.refused)
        lines.append(plural("{count} file took no part", "{count} files took no part", count))
    return lines


def _sheet(found: Comparison, base: str, taste: str, fetch: Callable[[str], bytes]) -> str:
    """Returns the contact sheet as one HTML file."""
    from konomi.night.report import page, sections
    from konomi.night.report.thumbnails import Thumbnails

    title, thumbnails = text("Adapters of {base} under this taste", base=base), Thumbnails(fetch)
    lead = text("The same prompts and seeds by each, as the rater sees them; nothing was picked by looking.")
    shared = min(judged["images"] for judged in found.judgements)
    tiles = [
        page.Tile(judged["adapter"], f"{judged['level']:.2f}", f"SSR+ {percent(judged['figures']['p_ssr']['value'])}")
        for judged in found.judgements
    ]
    sheets = [
        page.ContactSheet(
            judged["adapter"],
            [thumbnails.picture(digest) for digest in judged["figures"]["digests"][: min(shared, sections.SHEET)]],
            f"Vendi {judged['figures']['vendi']:.1f}",
        )
        for judged in found.judgements
    ]
    opening = page.Opening(f"konomi compare --adapters · {taste.removeprefix('tastes/')}", title, lead)
    blocks: list[page.Block] = [opening, page.Tiles(tiles), page.Statements(advised(found))]
    blocks.append(page.Heading(text("Side by side")))
    blocks.append(page.Paragraph(text("Each row is one prompt and one seed, made by every adapter.")))
    blocks.append(sections.prompt_grid(sheets, found.judgements[0]["figures"]["prompts"]))
    blocks += [page.Heading(text("Contact sheets")), page.ContactSheets(sheets)]
    return page.Page(title, blocks).html()
