"""What a text inside an image says of its making: recognised by what it is, whatever key it stands under.

A1111, Forge, Fooocus, SwarmUI, InvokeAI, NovelAI, Easy Diffusion, Draw Things, ComfyUI and konomi share a handful of
keys and fill them differently; JSON under `parameters` is a record, never the prompt itself.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MAX_PROMPT_BYTES = 4096
SEED = re.compile(r"(?:^|, )Seed: (\d{1,20})(?:,|$)", re.MULTILINE)
LAST_LINE = re.compile(r"(?:^|\n)(?:Negative prompt:|Steps: \d)")
INFOTEXT = re.compile(r"(?:^|\n)Steps: \d+,")
NAMED_MODEL = re.compile(r"(?:^|, )Model: ([^,\n]+)")
NUMBERS = {
    "steps": re.compile(r"(?:^|\n)Steps: (\d{1,6})"),
    "guidance_scale": re.compile(r", CFG scale: (\d{1,4}(?:\.\d+)?)"),
}
"""What an infotext says of how an image was made, under the names the generator has for it."""
NAMED_SAMPLER = re.compile(r", Sampler: ([^,\n]+)")
SAMPLER = "sampler: "
"""Before a sampler's name, in small letters, as a number of value 1: one of each there is, and no order among them."""
MOST_SAMPLER = 55
"""Characters of a sampler's name at most: the rater takes names of 64 for a number. A longer one is no sampler's."""
IN_RECORDS: Mapping[str, tuple[str, ...]] = {
    "steps": ("steps", "Steps", "num_inference_steps"),
    "guidance_scale": ("guidance_scale", "cfg_scale", "cfgscale", "cfg", "CFG scale", "scale"),
    SAMPLER: ("sampler", "sampler_name", "Sampler", "scheduler"),
}
"""The same in records, by the names Fooocus, InvokeAI, SwarmUI, NovelAI, Easy Diffusion, Draw Things, ComfyUI's nodes
and konomi have for it; the first that is there speaks."""
IN_DREAM = {
    "steps": re.compile(r"(?:^|\s)(?:-s\s*|--steps[ =])(\d{1,6})\b"),
    "guidance_scale": re.compile(r"(?:^|\s)(?:-C\s*|--cfg_scale[ =])(\d{1,4}(?:\.\d+)?)"),
    SAMPLER: re.compile(r"(?:^|\s)(?:-A\s*|--sampler[ =])(\w{1,40})"),
}
"""The same in InvokeAI's command line."""
MODELS = ("model", "Model", "use_stable_diffusion_model", "base_model")
"""Names of the model in flat records: its name, or a record with `model_name` or `name`."""
MOST_MODEL = 200
"""Bytes of a model's name that are kept."""
DREAM = re.compile(r'^\s*"(?P<prompt>.*?)"(?P<options>(?:\s+-{1,2}\w.*)?)$', re.DOTALL)
DREAM_SEED = re.compile(r"(?:^|\s)(?:-S\s*|--seed[ =])(\d{1,20})\b")

TORN = re.compile(r'\s*(?:\{\s*(?:"|$)|\[\s*["{]|\[{4})')
"""How JSON begins and a prompt does not: "{{this}}" and "[[this]]" are weights."""

MAX_DREAM = 64 * 1024
"""Characters of a command line of InvokeAI's at most."""

MOST_SEED = 2**63 - 1
"""The largest seed the contract holds."""

PROMPTS = ("prompt", "positive_prompt", "positivePrompt", "Prompt", "c")
"""Names of the prompt in flat records: Fooocus, NovelAI, Easy Diffusion; InvokeAI; Draw Things (`c`)."""

SEEDS = ("seed", "Seed", "noise_seed")
COMPANIONS = frozenset(["seed", "steps", "sampler", "uc", "scale", "size", "model"])
"""Names of Draw Things' record, one of which stands beside its `c`."""


@dataclass(frozen=True)
class Said:
    """What one text says of an image's making.

    Attributes:
        prompt: the prompt, as it stands there; None where the text is no record, empty where it says there was none.
        seed: the seed; None where it says none.
        starter: the starter model made the image.
        odd_seed: a seed that no seed can be, as it stands there; empty where there is none.
        graph: ComfyUI's graph of what was computed, where the text is one.
        strange: the text is a record of a kind that is not known here.
        model: the model that made the image, as the text names it; empty where it names none.
        numbers: steps, guidance scale and the sampler, where it says them.
    """

    prompt: str | None = None
    seed: int | None = None
    starter: bool = False
    odd_seed: str = ""
    graph: Mapping[str, Any] | None = None
    strange: bool = False
    model: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


def said_by(value: str, *, plain: bool = False) -> Said:
    """Returns what a text says of an image's making.

    Args:
        value: the text.
        plain: the text stands where a tool writes prompts, so one that is no record is a prompt itself.
    """
    record = _record(value)
    if record is not None:
        return said_by_record(record)
    if INFOTEXT.search(value):
        return said_by_infotext(value)
    dream = DREAM.match(value[:MAX_DREAM]) if value.lstrip().startswith('"') else None
    if dream is not None and dream["options"]:
        seed = DREAM_SEED.search(dream["options"])
        found = {name: match[1] for name, pattern in IN_DREAM.items() if (match := pattern.search(dream["options"]))}
        said = with_seed(dream["prompt"], int(seed[1]) if seed else None)
        return replace(said, numbers=numbers_of(found))
    if TORN.match(value):
        return Said(strange=True)  # a record that was cut off
    return said_by_infotext(value) if plain and value.strip() else Said()


def said_by_infotext(infotext: str) -> Said:
    """Returns prompt, seed, model, steps, guidance scale and sampler of an infotext as A1111 writes it."""
    end, match = LAST_LINE.search(infotext), SEED.search(infotext)
    said = with_seed(infotext[: end.start()] if end else infotext, int(match[1]) if match else None)
    begin = INFOTEXT.search(infotext)
    if begin is None:
        return said
    rest = infotext[begin.start() :]  # a prompt may speak of models too
    model = NAMED_MODEL.search(rest)
    patterns = {**NUMBERS, SAMPLER: NAMED_SAMPLER}
    found = {name: match[1] for name, pattern in patterns.items() if (match := pattern.search(rest))}
    return replace(said, model=model_name(model[1]) if model else "", numbers=numbers_of(found))


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the steps, guidance scale and sampler of a record in whatever names; what cannot be one is left out.

    Args:
        record: names to values of any type.

    Returns:
        "steps" and "guidance_scale", above 0 and finite, and 1 under "sampler: NAME".
    """
    numbers: dict[str, float] = {}
    for name, spellings in IN_RECORDS.items():
        value = next((record[key] for key in (name, *spellings) if record.get(key) is not None), None)
        if name == SAMPLER:
            words = value.strip().lower() if isinstance(value, str) else ""
            if words and words.isprintable() and len(words) <= MOST_SAMPLER:
                numbers[SAMPLER + words] = 1.0
        elif (number := _amount(value)) is not None:
            numbers[name] = number
    return numbers


def _amount(value: object) -> float | None:
    """Returns a value of any type as an amount above 0 and below a million; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < 1e6 else None


def model_name(value: object) -> str:
    """Returns the name of a model as a record has it, without folder, file ending or control characters."""
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("model_name", "name") if isinstance(value.get(name), str)), "")
    if not isinstance(value, str):
        return ""
    name = "".join(character for character in re.split(r"[\\/]", value.strip())[-1] if character.isprintable())
    name = re.sub(r"\.(safetensors|ckpt|pt|gguf)$", "", name)
    return name.encode("utf-8", "ignore")[:MOST_MODEL].decode("utf-8", "ignore").strip()


def said_by_konomi(value: str) -> Said:
    """Returns what konomi's own record says; nothing where it is none."""
    record = _record(value)
    if record is None:
        return Said(strange=bool(value.strip()))
    said = with_seed(_words(record.get("prompt")), record.get("seed"))
    starter = record.get("base_model") == "starter"
    return Said(said.prompt, said.seed, starter, said.odd_seed, numbers=numbers_of(record))


def clean(prompt: str) -> str:
    """Returns a prompt the rater takes: no control characters, at most 4 KiB of UTF-8."""
    printable = "".join(character if character.isprintable() else " " for character in prompt)
    return printable.strip().encode("utf-8", "ignore")[:MAX_PROMPT_BYTES].decode("utf-8", "ignore")


def seed_in(value: object) -> int | None:
    """Returns the seed a value of any type stands for, 0 to 2^63 - 1; None where it stands for none.

    Raises:
        ValueError: it is there and no seed: a fraction, words, a truth value or a number too large.
    """
    number = whole_number(value)
    if number is not None and number > MOST_SEED:
        raise ValueError("too large")
    return number if number is None or number >= 0 else None  # -1 asks for a seed at random


def whole_number(value: object) -> int | None:
    """Returns the whole number a value of any type stands for: 5, 5.0, "5"; None for null and empty text.

    Raises:
        ValueError: it is something else: a fraction, words, a truth value, a list.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        value = int(text) if re.fullmatch(r"[+-]?\d{1,40}", text) else float(text)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError("no whole number")
    return int(value)


def _record(value: str) -> Mapping[str, Any] | None:
    try:
        record = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, list) and record and isinstance(record[0], dict):
        record = {"": record}
    return record if isinstance(record, dict) else None


def said_by_record(record: Mapping[str, Any]) -> Said:
    """Returns what a record says of an image's making, whichever program wrote it."""
    return next((said for reader in READERS if (said := reader(record)) is not None), Said(strange=bool(record)))


def _comfyui(record: Mapping[str, Any]) -> Said | None:
    nodes = record.get("prompt") if isinstance(record.get("prompt"), dict) else record
    if isinstance(nodes, dict) and any(isinstance(node, dict) and "class_type" in node for node in nodes.values()):
        return Said(graph=nodes)
    return None


def _swarmui(record: Mapping[str, Any]) -> Said | None:
    inner = record.get("sui_image_params")
    return _flat(inner) if isinstance(inner, dict) else None


def _novelai(record: Mapping[str, Any]) -> Said | None:
    """Reads NovelAI's texts together: the prompt stands in `Comment`, in older images in `Description` alone."""
    comment = _record(record["Comment"]) if isinstance(record.get("Comment"), str) and "Software" in record else None
    if comment is None:
        return None
    prompt = _words(comment.get("prompt"))
    said = with_seed(_words(record.get("Description")) if prompt is None else prompt, comment.get("seed"))
    return replace(said, numbers=numbers_of(comment))


def _invokeai(record: Mapping[str, Any]) -> Said | None:
    """Reads InvokeAI's older `sd-metadata`: prompts with weights in a list of their own."""
    image = record.get("image")
    if not isinstance(image, dict) or "prompt" not in image:
        return None
    prompt = image["prompt"]
    if isinstance(prompt, list):
        prompt = ", ".join(words for part in prompt if isinstance(part, dict) and (words := _words(part.get("prompt"))))
    return replace(with_seed(_words(prompt), image.get("seed")), numbers=numbers_of(image))


def _flat(record: Mapping[str, Any]) -> Said | None:
    name = next((name for name in PROMPTS if isinstance(record.get(name), str)), None)
    if name is None or (name == "c" and not COMPANIONS & set(record)):
        return None
    prompt = str(record[name])
    said = with_seed(prompt, next((record[name] for name in SEEDS if name in record), None))
    model = next((found for key in MODELS if (found := model_name(record.get(key)))), "")
    return replace(said, model=model, numbers=numbers_of(record))


READERS: tuple[Callable[[Mapping[str, Any]], Said | None], ...] = (_swarmui, _comfyui, _novelai, _invokeai, _flat)
"""Kinds of records, asked in turn."""


def with_seed(prompt: str | None, seed: object) -> Said:
    """Returns a prompt with the seed a value of any type stands for."""
    try:
        return Said(prompt, seed_in(seed))
    except (ValueError, OverflowError):
        return Said(prompt, odd_seed=str(seed)[:40])


def _words(value: object) -> str | None:
    return value if isinstance(value, str) else None
