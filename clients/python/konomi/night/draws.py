"""What the systems share: one image to make, the turn it is made in, and seeds no two purposes share."""

import hashlib
import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from konomi.night.settings import NightSettings


@dataclass(frozen=True)
class Draw:
    """One image to make.

    Attributes:
        prompt: prompt.
        seed: seed of this image alone, 0 to 2**31 - 1.
        origin: "served" for the unit served now, "base" for the base model.
        init: digest of the image it starts from (img2img); empty for text to image.
        strength: share of the steps run on that image, 0..1.
        rare: anneal the prompt's influence for rarer pictures (CADS).
        depth: generations between it and the images a set began with; 0 where nobody counts.
    """

    prompt: str
    seed: int
    origin: str
    init: str = ""
    strength: float = 0.0
    rare: bool = False
    depth: int = 0


@dataclass(frozen=True)
class Turn:
    """One turn of the loop, as a system sees it.

    Attributes:
        seed: seed of the night.
        unit: number of the unit it makes.
        position: how many units this night has begun, this one included.
        prompts: open prompts, one or more.
        settings: settings of the night.
        budget_nats: selection pressure the whole night may spend.
        served_is_base: no unit is served yet, so everything comes from the base model.
        pool: images that can be selected from; known once they are made.
        spent_nats: pressure of the units before.
        seen: what the system asked to have observed before it draws, as plain JSON.
    """

    seed: int
    unit: int
    position: int
    prompts: Sequence[str]
    settings: NightSettings
    budget_nats: float
    served_is_base: bool = True
    pool: int = 0
    spent_nats: float = 0.0
    seen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitContext:
    """What the steps of one unit are told of it.

    Attributes:
        unit: its number.
        position: its place in the night, from 1.
        system: name of the system that makes it.
        spent: selection pressure of the units before, in nats.
        seen: what the system asked to have observed before it draws, as plain JSON.
    """

    unit: int
    position: int
    system: str
    spent: float
    seen: dict[str, Any] = field(default_factory=dict)


def image_seed(seed: int, purpose: str, index: int) -> int:
    """Returns the seed of one image: a hash of night seed, purpose and index, so no draw depends on another."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def shuffled(prompts: Sequence[str], key: str) -> list[str]:
    """Returns the distinct prompts in an order the key alone decides."""
    order = sorted(set(prompts))
    random.Random(hashlib.sha256(key.encode()).digest()).shuffle(order)
    return order


def evaluation_draws(seed: int, prompts: Sequence[str], settings: NightSettings) -> list[Draw]:
    """Returns the fixed prompts and seeds every unit is evaluated on; they are disjoint from every pool's seeds."""
    order = shuffled(prompts, f"{seed}/evaluation")
    return [
        Draw(order[i % len(order)], image_seed(seed, "evaluation", i), "served")
        for i in range(settings.evaluation_images)
    ]


def base_draws(seed: int, unit: int, prompts: Sequence[str], first: int, last: int) -> list[Draw]:
    """Returns draws `first` to `last` - 1 of the base model's own images a unit's training set still lacks."""
    order = shuffled(prompts, f"{seed}/base-{unit}")
    return [Draw(order[i % len(order)], image_seed(seed, f"base-{unit}", i), "base") for i in range(first, last)]


TOKEN = re.compile(r"(<[a-z0-9][a-z0-9_-]{0,30}>)(\s*)")


@dataclass(frozen=True)
class ConceptToken:
    """A learnt word: its token V*, for example "<tama>", and what it is one of, for example "cat"."""

    token: str
    class_word: str

    def __str__(self) -> str:
        return f"{self.token} {self.class_word}"


def plain(prompt: str, tokens: Collection[str] = ()) -> str:
    """Returns a prompt without the tokens a model does not know; the class words stay.

    Args:
        prompt: the prompt.
        tokens: those the model knows.
    """
    return TOKEN.sub(lambda match: match[0] if match[1] in tokens else "", prompt).strip()


def named(prompt: str, word: ConceptToken) -> str:
    """Returns a prompt with a token before its class word; a prompt without the class word gets both in front."""
    if word.token in prompt:
        return prompt
    match = re.search(rf"\b{re.escape(word.class_word)}\b", prompt, re.IGNORECASE)
    if match is None:
        return f"{word}, {prompt}" if prompt else str(word)
    return f"{prompt[: match.start()]}{word.token} {prompt[match.start() :]}"


def class_of(caption: str) -> str:
    """Returns what a caption seems to be of: the last word before the first comma, "image" where there is none.

    For "ink portrait, red hair" that is "portrait". It is a guess; whoever knows better says so.
    """
    words = re.findall(r"[^\W\d_]+", plain(caption).partition(",")[0])
    return words[-1].lower() if words else "image"


def composed(prompts: Sequence[str], words: Sequence[ConceptToken]) -> list[str]:
    """Returns prompts that call each word alone in turn, and where there are several, then all of them together.

    Args:
        prompts: prompts, one or more.
        words: learnt words, one or more.
    """
    turns = [[word] for word in words] + ([list(words)] if len(words) > 1 else [])
    calls = []
    for number in range(len(turns) * len(prompts)):
        prompt = prompts[number // len(turns)]
        for word in turns[number % len(turns)]:
            prompt = _joined(prompt, word)
        calls.append(prompt)
    return list(dict.fromkeys(calls))


def _joined(prompt: str, word: ConceptToken) -> str:
    """Returns `named`, but a class word the prompt lacks is said at its end: "ink portrait, <h> hair"."""
    if word.token in prompt or re.search(rf"\b{re.escape(word.class_word)}\b", prompt, re.IGNORECASE):
        return named(prompt, word)
    return f"{prompt}, {word}" if prompt else str(word)
