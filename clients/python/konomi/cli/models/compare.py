"""`konomi models compare`: two models, or a model and its base, on a sheet of blind pairs; then the verdict."""

import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, progress, say, table
from konomi.client import Client
from konomi.client.services import taste_name
from konomi.errors import InvalidArgument, from_item
from konomi.evaluation import blind_pairs
from konomi.evaluation.base_models import BaseJudgement, check, compare
from konomi.files import write_atomically, write_for_user
from konomi.home import Home
from konomi.host import extras
from konomi.i18n.catalogue import percent, text
from konomi.night.gateway.services import NightServices
from konomi.night.metrics import Estimate
from konomi.taste.prompts import kept
from konomi.v1 import generator_pb2 as generator
from konomi.v1 import trainer_pb2 as trainer

PROMPTS = 512
MOST_IMAGES = 256
"""Images of each base model at most."""
Count = Annotated[int, typer.Option("--images", min=8, max=MOST_IMAGES, help="With --bases: images of each.")]
SHEET = Path("bases.html")


class _Attached:
    """Holds one client as `NightServices` asks for it."""

    def __init__(self, client: Any) -> None:
        self.client = client


def compare_bases(
    bases: Sequence[str], taste: str, prompts: Sequence[str], count: int, seed: int, out: Path, as_json: bool
) -> None:
    """Compares base models, writes the sheet and says what the rater thinks of each.

    Args:
        bases: ids of base models.
        taste: id or name of the taste.
        prompts: prompts; none takes those of the taste's own images.
        count: images of each base model.
        seed: of the images.
        out: where the sheet is written.
        as_json: print one JSON object instead of the table.
    """
    extras.require_page()
    with attached() as client:
        gateway = NightServices(_Attached(client), taste_name(taste))
        check(gateway, bases)
        asked = list(prompts) or kept(Home.locate().root, taste) or gateway.prompts(PROMPTS) or [""]
        with progress(text("making images"), len(bases) * count) as update:
            judgements = compare(gateway, bases, asked, count, seed, lambda done: update(completed=done))
        write_for_user(out, _sheet(judgements, taste, client.artifacts.get).encode())
    drawn = len(set(judgements[0]["prompts"]))
    if drawn < len(asked):
        line = "{drawn} of {count} prompts were drawn, picked by the seed; --images {more} draws {more} of them"
        note(text(line, drawn=drawn, count=len(asked), more=min(MOST_IMAGES, len(asked))))
    if as_json:
        return emit({"sheet": str(out), "images": count, "prompts": drawn, "bases": judgements})
    columns = ("base model", "score", "lower bound", "SSR or better", "UR", "Vendi", "typical", "pairs won against it")
    table(columns, [_row(judgement) for judgement in judgements])
    say(text("all of it in the rater's eyes: nobody looked at these images"))
    for line in advised(judgements):
        say(line)
    note(text("sheet: {file}", file=out))


def _row(judgement: BaseJudgement) -> Sequence[str]:
    return (
        judgement["base"],
        span(judgement["utility"]),
        span(judgement["lower_bound"]),
        span(judgement["p_ssr"], share=True),
        span(judgement["p_ur"], share=True),
        f"{judgement['vendi']:.1f}",
        percent(judgement["typical_share"]),
        "" if judgement["wins"] is None else span(judgement["wins"], share=True),
    )


def advised(judgements: Sequence[BaseJudgement]) -> list[str]:
    """Returns what follows from a comparison, and every warning."""
    best, second = judgements[0], judgements[1]
    names = {"best": best["base"], "second": second["base"]}
    if second["wins"] is not None and second["wins"]["high"] < 0.5 and not best["warning"]:
        lines = [text("in the rater's eyes {best} suits this taste best: surely better than {second}", **names)]
    else:
        ahead = "in the rater's eyes {best} is ahead, but {second} may be as good: more images would tell"
        lines = [text(ahead, **names)]
    return lines + [
        text(
            "{base}: {share} of its images are unlike anything known, so its score is a guess; grade some first",
            base=base["base"],
            share=percent(max(1 - base["typical_share"], base["unknown_share"])),
        )
        for base in judgements
        if base["warning"]
    ]


def span(estimate: Estimate, *, share: bool = False) -> str:
    """Returns a figure with its interval, as tables print it; a share in percent."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if share:
        return f"{percent(value)} ({100 * low:.0f}–{100 * high:.0f})"
    return f"{value:.2f} ({low:.2f}–{high:.2f})"


def _sheet(judgements: Sequence[BaseJudgement], taste: str, fetch: Callable[[str], bytes]) -> str:
    """Returns the contact sheet as one HTML file."""
    from konomi.night.report import page, sections
    from konomi.night.report.thumbnails import Thumbnails

    title, thumbnails = text("Base models under this taste"), Thumbnails(fetch)
    lead = text("The same prompts and seeds by each, as the rater sees them; nothing was picked by looking.")
    tiles = [
        page.Tile(base["base"], f"{base['utility']['value']:.2f}", f"UR {span(base['p_ur'], share=True)}")
        for base in judgements
    ]
    sheets = [
        page.ContactSheet(
            base["base"],
            [thumbnails.picture(digest) for digest in base["digests"][: sections.SHEET]],
            f"Vendi {base['vendi']:.1f}",
        )
        for base in judgements
    ]
    opening = page.Opening(f"konomi models compare --bases · {taste.removeprefix('tastes/')}", title, lead)
    blocks: list[page.Block] = [opening, page.Tiles(tiles), page.Statements(advised(judgements))]
    blocks.append(page.Heading(text("Side by side")))
    blocks.append(page.Paragraph(text("Each row is one prompt and one seed, made by every base model.")))
    blocks.append(sections.prompt_grid(sheets, judgements[0]["prompts"]))
    blocks += [page.Heading(text("Contact sheets")), page.ContactSheets(sheets)]
    return page.Page(title, blocks).html()


BASE = "base"
PAIRS = Path("pairs.html")
Find = Callable[[Client, str, str], trainer.Model]


def command(find: Find) -> Callable[..., None]:
    """Returns the command; `find` finds a taste's model by its name."""

    def compare(
        models: Annotated[
            list[str] | None, typer.Argument(metavar="A B", help="Two models, by name or id; base is the base model.")
        ] = None,
        out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the sheet.")] = PAIRS,
        pairs: Annotated[int, typer.Option(min=1, max=500, help="Pairs on the sheet.")] = 20,
        prompt: Annotated[
            list[str] | None, typer.Option(help="A prompt; may be given again. Default: those the first model learnt.")
        ] = None,
        seed: Annotated[int, typer.Option(help="Seed of images and sides.")] = 0,
        answers: Annotated[str, typer.Option(metavar="LRT...", help="Judge: the answers the sheet shows.")] = "",
        bases: Annotated[
            bool, typer.Option("--bases", help="The names are base models: say which one suits the taste.")
        ] = False,
        count: Count = 32,
        taste: TasteId = "default",
        as_json: Json = False,
    ) -> None:
        """Draw blind pairs of two models, judge the answers given on such a sheet, or compare base models.

        Example: konomi models compare unit-2 base --out pairs.html
        """
        if bases:
            sheet = SHEET if out == PAIRS else out
            return compare_bases(models or [], taste, prompt or [], count, seed, sheet, as_json)
        if answers:
            return verdict(key_file(out), answers, as_json)
        if models is None or len(models) != 2:
            raise InvalidArgument(text("expected two models to compare, got {count}", count=len(models or [])))
        extras.require_page()
        with attached() as client:
            sides = [None if name == BASE else find(client, taste, name) for name in models]
            drawn, images = draw(client, sides, prompt or [], pairs, seed)
        write_for_user(out, blind_pairs.page(drawn, images).encode())
        return hand_out(out, models, drawn, as_json)

    return compare


def key_file(sheet: Path) -> Path:
    """Returns where the key of a sheet is: who is on which side, in a file of its own."""
    return sheet.with_suffix(".key.json")


def hand_out(sheet: Path, models: Sequence[str], pairs: Sequence[blind_pairs.Pair], as_json: bool) -> None:
    """Writes the key of a sheet beside it, and says where both are."""
    key = key_file(sheet)
    write_atomically(key, blind_pairs.key(models[0], models[1], pairs).encode())
    if as_json:
        return emit({"sheet": str(sheet), "key": str(key), "pairs": len(pairs)})
    line = "{sheet}: {count} blind pairs; do not open {key} before you have judged"
    return say(text(line, sheet=sheet, count=len(pairs), key=key))


def draw(
    client: Client, sides: Sequence[trainer.Model | None], prompts: Sequence[str], count: int, seed: int
) -> tuple[list[blind_pairs.Pair], list[tuple[bytes, bytes]]]:
    """Returns the pairs and the images of both sides; None as a side is the base model of the other.

    Raises:
        InvalidArgument: both sides are the base, or they have different base models.
    """
    models = [model for model in sides if model is not None]
    bases = {model.base_model for model in models}
    if len(bases) != 1:
        raise InvalidArgument(text("expected two models of one base model, or one model and the word base"))
    drawn = blind_pairs.plan(list(prompts) or learnt(client, models[0]), count, seed)
    first, second = (_images(client, model, bases.copy().pop(), drawn) for model in sides)
    return drawn, list(zip(first, second, strict=True))


def learnt(client: Client, model: trainer.Model) -> list[str]:
    """Returns the captions a model learnt, each once, sorted."""
    items = json.loads(client.artifacts.get(model.manifest_digest))["items"] if model.manifest_digest else []
    return sorted({item["caption"] for item in items if item["caption"] and item["role"] != "prior"})


def _images(client: Client, model: trainer.Model | None, base: str, pairs: Sequence[blind_pairs.Pair]) -> list[bytes]:
    request = generator.GenerateImagesRequest(
        base_model=base, images=[generator.ImageRequest(prompt=pair.prompt, seed=pair.seed) for pair in pairs],
        unit=model.name.removeprefix("models/") if model else BASE, request_id=str(uuid.uuid4()),
    )  # fmt: skip
    if model is not None:
        request.adapters.add(digest=model.adapter_digest, scale=1.0)
    digests = [""] * len(pairs)
    for image in client.generator.generate_images(request):
        if image.HasField("error"):
            raise from_item(image.error.code, image.error.reason, image.error.message)
        if image.artifact.digest:
            digests[image.index] = image.artifact.digest
    return [client.artifacts.get(digest) for digest in digests]


def verdict(lock: Path, answers: str, as_json: bool) -> None:
    """Prints what the answers say, given the key of a sheet.

    Raises:
        InvalidArgument: there is no key, or the answers do not fit it.
    """
    if not lock.exists():
        raise InvalidArgument(text("expected the key file {path} beside the sheet; there is none", path=lock))
    outcome = blind_pairs.judge(lock.read_text("utf-8"), answers)
    if as_json:
        emit(outcome)
        return
    rate = outcome["win_rate"]
    say(text(
        "{first} is preferred to {second} in {rate} of {count} pairs (95 % interval {low} to {high})",
        first=outcome["first"], second=outcome["second"], rate=percent(rate["value"]), count=f"{rate['n']:.0f}",
        low=percent(rate["low"]), high=percent(rate["high"]),
    ))  # fmt: skip
