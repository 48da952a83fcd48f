"""What the page's form of a night asks for before it starts: base models, prompts, a trial, pictures to learn from."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from konomi.client import Client
from konomi.client.services import taste_name
from konomi.datasets.media import ENDINGS, media_type_of
from konomi.errors import InvalidArgument
from konomi.files import make_folder, write_atomically
from konomi.home import Home
from konomi.i18n import catalogue
from konomi.night.alarms import sentence
from konomi.night.engine import preparation, trial
from konomi.night.engine.bases import BaseLine, base_lines
from konomi.night.gateway.services import NightServices
from konomi.night.records.store import NightStore
from konomi.night.systems.golden import GoldenSettings
from konomi.taste import prompts
from konomi.taste.suggested_prompts import suggested
from konomi.web.responses import Asked, number, text

SYSTEM = re.compile(r"[a-z]{1,16}(:[1-9][0-9]?)?(\+[a-z]{1,16}:[1-9][0-9]?){0,7}")
"""A system, or a chain of them: "longtail:2+golden:1"."""
DIGEST = re.compile(r"[0-9a-f]{64}")
BASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")
WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
CLASS = re.compile(r"[^:=/\\\x00-\x1f]{1,40}")
MOST_SEEDS, MOST_TAUGHT, MOST_CONCEPTS = 5, 100, 8


class Bases(TypedDict):
    """The base models of this machine, and what holds where nobody chooses: base, units, images a unit, golden's UR."""

    bases: list[BaseLine]
    chosen: str
    golden_minimum: int
    units: int
    images: int


class Prompts(TypedDict):
    """The prompts of a taste; `origin`: "kept", "pictures", "suggested", or "" where there are none."""

    prompts: list[str]
    origin: str


class Tried(TypedDict):
    """A trial of a base model; `sentence` is the plain one, `warning` whether it says that the base cannot draw it."""

    needed: bool
    digests: list[str]
    sentence: str
    figures: list[str]
    warning: bool


class Wish(TypedDict, total=False):
    """What the form adds to a night, as settings of a night; what nobody asked for is left out."""

    base_model: str
    seed_images: list[str]
    concepts: list[str]


class NightForm:
    """Endpoints of the form, over the services that run."""

    def __init__(self, home: Home, client: Callable[[], Client]) -> None:
        self._home, self._client = home, client

    def bases(self, asked: Asked) -> Bases:
        """Endpoint: the base models at hand, what each can draw, and whether a night on it fits."""
        with catalogue.speaking(text(asked, "language", "en")):
            lines = [line for line in base_lines(self._client(), self._home) if line["here"]]
        _, settings = preparation.settings_of(self._home.root, "converge")
        least = settings.of(GoldenSettings).golden_minimum
        return {
            "bases": lines, "chosen": settings.base_model, "golden_minimum": least, "units": settings.units,
            "images": settings.images,
        }  # fmt: skip

    def prompts(self, asked: Asked) -> Prompts:
        """Endpoint: the prompts a night would draw with; suggested ones where there are none."""
        taste = text(asked, "taste", "tastes/default")
        lines, origin = prompts.at_hand(self._client(), self._home.root, taste)
        if not lines:
            lines = suggested(self._client(), taste)
            origin = "suggested" if lines else ""
        return {"prompts": lines, "origin": origin}

    def keep_prompts(self, asked: Asked) -> Prompts:
        """Endpoint: writes the prompts of a taste down; none takes them back."""
        lines = _texts(asked, "prompts", prompts.MOST, prompts.LONGEST)
        kept = prompts.keep(self._home.root, text(asked, "taste", "tastes/default"), lines)
        return {"prompts": kept, "origin": "kept" if kept else ""}

    def trial(self, asked: Asked) -> Tried:
        """Endpoint: a few images of a base model at the night's prompts, and the one sentence about them."""
        taste = taste_name(text(asked, "taste", "tastes/default"))
        wish = wish_of(asked, self._home, self._client().artifacts.get)
        chain, settings = preparation.settings_of(self._home.root, system_of(asked), **wish)
        seed = number(asked, "seed", 0, 0, 2**31)
        wanted = preparation.new_request(chain, taste, seed, settings, preparation.guards_of(self._home.root), [])
        nights, gateway = NightStore(self._home.root), NightServices(self, taste)
        request = preparation.complete_request(wanted, self, nights)
        if not (trial.needed(gateway, request, nights) or asked.get("always") is True):
            return {"needed": False, "digests": [], "sentence": "", "figures": [], "warning": False}
        tried = trial.look(gateway, request, self._home.root, lambda name, done, total, made="": None)
        warning = trial.warning(tried)
        with catalogue.speaking(text(asked, "language", "en")):
            figures = trial.figures(tried)
            spoken = figures[0] if warning is None else sentence(warning, catalogue.language())
        return {
            "needed": True, "digests": list(tried.digests), "sentence": spoken, "figures": figures,
            "warning": warning is not None,
        }  # fmt: skip

    @property
    def client(self) -> Client:
        """The client of now, as the services of a night ask for it."""
        return self._client()


def system_of(asked: Asked) -> str:
    """Returns the system, or the chain of systems, a request names; "converge" where it names none.

    Raises:
        InvalidArgument: it is neither.
    """
    system = text(asked, "system", "converge")
    if not SYSTEM.fullmatch(system):
        message = catalogue.text("expected a system, or a chain such as longtail:2+golden:1")
        raise InvalidArgument(message, field="system")
    return system


def base_of(asked: Asked) -> str | None:
    """Returns the base model a request names; None where it names none.

    Raises:
        InvalidArgument: it is no name of one.
    """
    name = text(asked, "base")
    if name and not BASE.fullmatch(name):
        raise InvalidArgument(catalogue.text("expected the name of a base model"), field="base")
    return name or None


def wish_of(asked: Asked, home: Home, fetch: Callable[[str], bytes]) -> Wish:
    """Returns what a form adds to a night, as settings of a night.

    Args:
        asked: "base", "seed_images" (digests) and "concepts" (each with word, class and images) are read.
        home: the home, where the pictures of a concept become a folder.
        fetch: returns the bytes of an image.

    Raises:
        InvalidArgument: one of them cannot be used.
    """
    taught = asked.get("concepts", [])
    if not isinstance(taught, list) or len(taught) > MOST_CONCEPTS:
        message = catalogue.text("expected at most {most} concepts", most=MOST_CONCEPTS)
        raise InvalidArgument(message, field="concepts")
    wish, base, seeds = Wish(), base_of(asked), _digests(asked, "seed_images", MOST_SEEDS)
    if base:
        wish["base_model"] = base
    if seeds:
        wish["seed_images"] = seeds
    if taught:
        wish["concepts"] = [_concept(concept, home, fetch) for concept in taught]
    return wish


def options(asked: Asked, home: Home, fetch: Callable[[str], bytes]) -> list[str]:
    """Returns the same as options of the command line, and whether the night shall start whatever its base can draw."""
    wish = wish_of(asked, home, fetch)
    words = ["--base", wish["base_model"]] if "base_model" in wish else []
    words += [word for digest in wish.get("seed_images", []) for word in ("--seed-image", digest)]
    words += [word for concept in wish.get("concepts", []) for word in ("--concept", concept)]
    return [*words, "--anyway"] if asked.get("anyway") is True else words


def _concept(concept: object, home: Home, fetch: Callable[[str], bytes]) -> str:
    """Returns a concept as the command line takes it, its pictures written to a folder of the home."""
    if not isinstance(concept, Mapping):
        raise InvalidArgument(catalogue.text("expected a concept with a word, a class and pictures"), field="concepts")
    word, kind = text(concept, "word").strip().lower(), text(concept, "class").strip()
    if not WORD.fullmatch(word):
        message = catalogue.text("expected a word of small letters, digits and hyphens, got {word!r}", word=word)
        raise InvalidArgument(message, reason="CONCEPT_WORD", field="concepts")
    if not CLASS.fullmatch(kind):
        message = catalogue.text("expected what {word} is one of, for example cat", word=word)
        raise InvalidArgument(message, reason="CONCEPT_CLASS", field="concepts")
    digests = _digests(concept, "images", MOST_TAUGHT)
    if not digests:
        message = catalogue.text("expected pictures of {word}, got none", word=word)
        raise InvalidArgument(message, reason="CONCEPT_IMAGES", field="concepts")
    name = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:12]
    folder = home.root / "concepts" / f"{word}-{name}"
    make_folder(folder)
    for digest in digests:
        data = fetch(digest)
        write_atomically(folder / f"{digest}{ENDINGS.get(media_type_of(data[:12]), '.png')}", data)
    return f"{word}={kind}:{folder}"


def _digests(asked: Asked, name: str, most: int) -> list[str]:
    digests = _texts(asked, name, most, 64)
    if not all(DIGEST.fullmatch(digest) for digest in digests):
        raise InvalidArgument(catalogue.text("expected digests of pictures in {name}", name=name), field=name)
    return list(dict.fromkeys(digests))


def _texts(asked: Asked, name: str, most: int, longest: int) -> Sequence[str]:
    """Returns the texts of a request's list."""
    values = asked.get(name, [])
    if not isinstance(values, list) or len(values) > most or not all(isinstance(value, str) for value in values):
        message = catalogue.text("expected a list of at most {most} texts in {name}", most=most, name=name)
        raise InvalidArgument(message, field=name)
    if any(len(value) > longest for value in values):
        raise InvalidArgument(catalogue.text("expected shorter texts in {name}", name=name), field=name)
    return values
