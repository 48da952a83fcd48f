"""A sheet of blind pairs: the same prompts and seeds drawn by two models, sides hidden, and the key that opens it.

The page is one HTML file without anything from elsewhere. It says nothing of which side is whose: the order is drawn
from a seed and stands in the key file alone.
"""

import base64
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict

from konomi.datasets.media import media_type_of
from konomi.errors import InvalidArgument
from konomi.host import extras
from konomi.i18n.catalogue import language, text
from konomi.night.metrics import Estimate, share

SCHEMA = "konomi.pairs/1"
ANSWERS = "LRT"


@dataclass(frozen=True)
class Pair:
    """One pair: prompt, seed, and whether the first model is on the left."""

    prompt: str
    seed: int
    first_left: bool


@dataclass(frozen=True)
class SheetRow:
    """One pair as the sheet shows it: the prompt, and both pictures as data URLs."""

    prompt: str
    left: str
    right: str


def plan(prompts: Sequence[str], count: int, seed: int) -> list[Pair]:
    """Returns pairs that go through the prompts in turn; each model is on the left half the time, in a drawn order.

    Args:
        prompts: at least one.
        count: pairs.
        seed: of sides and images.
    """
    if not prompts:
        raise InvalidArgument(text("expected at least one prompt to compare with, got none"))
    rng = random.Random(seed)
    sides = [index % 2 == 0 for index in range(count)]
    rng.shuffle(sides)
    return [Pair(prompts[i % len(prompts)], rng.getrandbits(31), side) for i, side in enumerate(sides)]


def page(
    pairs: Sequence[Pair], images: Sequence[tuple[bytes, bytes]], command: str = "konomi models compare --answers"
) -> str:
    """Returns the HTML of a sheet.

    Args:
        pairs: as planned.
        images: the files of the first and the second model, pair by pair.
        command: what takes the answers.

    Raises:
        FailedPrecondition: the extra that makes pages is not installed.
    """
    extras.require_page()
    from konomi.night.report.page import render

    rows = []
    for pair, (first, second) in zip(pairs, images, strict=True):
        left, right = (first, second) if pair.first_left else (second, first)
        rows.append(SheetRow(pair.prompt, _data_url(left), _data_url(right)))
    return render(
        "pairs.html",
        language=language(),
        title=text("Which one do you like better?"),
        sides={"L": text("left"), "R": text("right")},
        choices={"L": text("left"), "R": text("right"), "T": text("equal")},
        rows=rows,
        note=text("Your answers; give them to the command {command}:", command=command),
    )


def key(first: str, second: str, pairs: Sequence[Pair]) -> str:
    """Returns the text of the key file: which models, and who is on which side."""
    document = {"schema": SCHEMA, "first": first, "second": second, "pairs": [asdict(pair) for pair in pairs]}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


class SheetOutcome(TypedDict):
    """What a judged sheet says: two models, and how often the first was preferred, a tie counting half."""

    first: str
    second: str
    win_rate: Estimate


def judge(key_text: str, answers: str) -> SheetOutcome:
    """Returns what the answers say of the two models.

    Args:
        key_text: the key file's.
        answers: one letter a pair: L, R, T for equal, or - where none was given.

    Raises:
        InvalidArgument: the key is none, or the answers do not fit it.
    """
    try:
        document = json.loads(key_text)
        pairs = [Pair(**row) for row in document["pairs"]]
        if document["schema"] != SCHEMA:
            raise ValueError(document["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(text("expected the key file of a sheet of pairs, got something else")) from error
    letters = answers.strip().upper()
    if len(letters) != len(pairs) or set(letters) - set(f"{ANSWERS}-"):
        raise InvalidArgument(
            text(
                "expected {count} letters L, R, T or -, one a pair; got {answers}",
                count=len(pairs),
                answers=answers[:80],
            )
        )
    given = [(pair, letter) for pair, letter in zip(pairs, letters, strict=True) if letter != "-"]
    wins = sum(0.5 if letter == "T" else float((letter == "L") == pair.first_left) for pair, letter in given)
    rate: Estimate = share(wins, len(given))
    return {"first": document["first"], "second": document["second"], "win_rate": rate}


def _data_url(data: bytes) -> str:
    return f"data:{media_type_of(data[:12])};base64,{base64.b64encode(data).decode()}"
