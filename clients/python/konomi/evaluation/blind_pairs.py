"""A sheet of blind pairs: the same prompts and seeds drawn by two models, sides hidden, and the key that opens it.

The page is one HTML file without anything from elsewhere. It says nothing of which side is whose: the order is drawn
from a seed and stands in the key file alone.
"""

import base64
import html
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from konomi.datasets.reader import media_type_of
from konomi.errors import InvalidArgument
from konomi.i18n.catalogue import text
from konomi.night.metrics import Figure, share

SCHEMA = "konomi.pairs/1"
ANSWERS = "LRT"
STYLE = (
    "body{font:16px system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem}"
    "fieldset{border:0;border-top:1px solid #888;margin:0;padding:1rem 0}legend{padding-right:1rem}"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}img{width:100%}"
    "label{display:inline-block;min-height:48px;padding:.5rem 1rem}output{font:20px monospace;word-break:break-all}"
)
SCRIPT = (
    "addEventListener('change',()=>{const n=document.querySelectorAll('fieldset').length;let s='';"
    "for(let i=0;i<n;i++){const c=document.querySelector(`input[name=\"p${i}\"]:checked`);s+=c?c.value:'-'}"
    "document.querySelector('output').textContent=s})"
)


@dataclass(frozen=True)
class Pair:
    """One pair: prompt, seed, and whether the first model is on the left."""

    prompt: str
    seed: int
    first_left: bool


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
    """
    rows = []
    for index, (pair, (first, second)) in enumerate(zip(pairs, images, strict=True)):
        left, right = (first, second) if pair.first_left else (second, first)
        choices = "".join(
            f'<label><input type="radio" name="p{index}" value="{value}"> {html.escape(text(word))}</label>'
            for value, word in (("L", "left"), ("R", "right"), ("T", "equal"))
        )
        rows.append(
            f"<fieldset><legend>{index + 1}. {html.escape(pair.prompt)}</legend>"
            f'<div class="pair">{_img(left, text("left"))}{_img(right, text("right"))}</div>{choices}</fieldset>'
        )
    title = html.escape(text("Which one do you like better?"))
    told = html.escape(text("Your answers; give them to `{command}`:", command=command))
    return (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head><body>'
        f"<h1>{title}</h1>{''.join(rows)}<p>{told}</p><output></output><script>{SCRIPT}</script></body></html>\n"
    )


def key(first: str, second: str, pairs: Sequence[Pair]) -> str:
    """Returns the text of the key file: which models, and who is on which side."""
    document = {"schema": SCHEMA, "first": first, "second": second, "pairs": [asdict(pair) for pair in pairs]}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def judge(key_text: str, answers: str) -> dict[str, Any]:
    """Returns "first", "second" and the first model's "win_rate" with its interval, a tie counting half.

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
        message = "expected {count} letters L, R, T or -, one a pair; got {answers}"
        raise InvalidArgument(text(message, count=len(pairs), answers=answers[:80]))
    given = [(pair, letter) for pair, letter in zip(pairs, letters, strict=True) if letter != "-"]
    wins = sum(0.5 if letter == "T" else float((letter == "L") == pair.first_left) for pair, letter in given)
    rate: Figure = share(wins, len(given))
    return {"first": document["first"], "second": document["second"], "win_rate": rate}


def _img(data: bytes, name: str) -> str:
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{html.escape(name)}" src="data:{media_type_of(data[:12])};base64,{encoded}">'
