"""The fields the contract's requests share, each with its rule: names, digests, ids, pages, filters and numbers."""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

Rule = Callable[[Any], str | None]
"""Returns what is wrong with a value, or None."""

MAX_TEXT = 4096


def pattern(expression: str, expected: str, *, optional: bool = False) -> Rule:
    """Text that matches a regular expression as a whole; where optional, the empty text is fine too."""
    compiled = re.compile(expression)

    def rule(value: str) -> str | None:
        if (optional and not value) or compiled.fullmatch(value):
            return None
        return f'{expected} was expected; "{value[:80]}" came.'

    return rule


def text(limit: int = MAX_TEXT) -> Rule:
    """Text of at most so many bytes of UTF-8, without control characters."""

    def rule(value: str) -> str | None:
        size = len(value.encode("utf-8"))
        if size > limit:
            return f"at most {limit} bytes of text were expected; {size} came."
        if any(unicodedata.category(letter) == "Cc" for letter in value):
            return "text without control characters was expected; one came."
        return None

    return rule


def between(low: float, high: float) -> Rule:
    """A finite number within [low, high]."""

    def rule(value: float) -> str | None:
        if math.isfinite(value) and low <= value <= high:
            return None
        return f"a number from {low:g} to {high:g} was expected; {value:g} came."

    return rule


def count(low: int, high: int) -> Rule:
    """A list of so many items."""

    def rule(value: Sequence[Any]) -> str | None:
        return None if low <= len(value) <= high else f"{low} to {high} items were expected; {len(value)} came."

    return rule


def multiple(of: int, high: int) -> Rule:
    """0, or a multiple of a number up to a limit."""

    def rule(value: int) -> str | None:
        if 0 <= value <= high and value % of == 0:
            return None
        return f"a multiple of {of} up to {high} was expected; {value} came."

    return rule


def known(low: int, high: int) -> Rule:
    """A value of the enum, without the unspecified one where low is 1."""

    def rule(value: int) -> str | None:
        return None if low <= value <= high else f"one of the named values was expected; {value} came."

    return rule


TASTE_ID, _UUID = r"[a-z0-9-]{1,40}", r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
PART = r"[A-Za-z0-9._-]{1,64}"
DIGEST = pattern(r"[0-9a-f]{64}", "a sha256 digest of 64 lower-case hexadecimal digits")
DIGEST_OR_NONE = pattern(r"[0-9a-f]{64}", "a sha256 digest of 64 lower-case hexadecimal digits", optional=True)
TASTE = pattern(f"tastes/{TASTE_ID}", '"tastes/{id}"')
TASTE_OR_NONE = pattern(f"tastes/{TASTE_ID}", '"tastes/{id}"', optional=True)
LABEL_OR_NONE = pattern(f"tastes/{TASTE_ID}/labels/{PART}", '"tastes/{id}/labels/{label}"', optional=True)
COMPARISON_OR_NONE = pattern(
    f"tastes/{TASTE_ID}/comparisons/{PART}", '"tastes/{id}/comparisons/{comparison}"', optional=True
)
VERSION = pattern(f"tastes/{TASTE_ID}/raterVersions/{PART}", '"tastes/{id}/raterVersions/{version}"')
CERTIFICATE = pattern(f"tastes/{TASTE_ID}/certificates/{PART}", '"tastes/{id}/certificates/{certificate}"')
RUN = pattern(f"trainingRuns/{PART}", '"trainingRuns/{run}"')
MODEL = pattern(f"models/{PART}", '"models/{model}"')
MODEL_OR_BASE_OR_NONE = pattern(f"base|models/{PART}", '"models/{model}" or "base"', optional=True)
BASE_OR_NONE = pattern(r"[a-z0-9][a-z0-9._-]{0,63}", "a base model id", optional=True)
BASE = pattern(r"[a-z0-9][a-z0-9._-]{0,63}", "a base model id")
UUID = pattern(_UUID, "a UUID")
UUID_OR_NONE = pattern(_UUID, "a UUID", optional=True)
PAGE = {"page_size": between(0, 1000), "page_token": text()}
FILTER = {"prompt_contains": text(), "digests[]": DIGEST, "units[]": text(200), "nights[]": text(200)}


def image_filter(field: str) -> dict[str, Rule]:
    """Returns the rules of an ImageFilter in a field."""
    return {f"{field}.{path}": rule for path, rule in FILTER.items()} | {
        f"{field}.grades[]": known(0, 5),
        f"{field}.sources[]": known(1, 4),
        f"{field}.min_utility": between(1, 5),
        f"{field}.min_novelty": between(0, 2),
    }


def digests(field: str, least: int, most: int) -> dict[str, Rule]:
    """Returns the rules of a list of digests."""
    return {field: count(least, most), f"{field}[]": DIGEST}


HYPER_PARAMETERS = {
    "hyper_parameters.steps": between(0, 100_000),
    "hyper_parameters.batch_size": between(0, 256),
    "hyper_parameters.learning_rate": between(0, 10),
    "hyper_parameters.rank": between(0, 256),
    "hyper_parameters.caption_dropout": between(0, 1),
    "hyper_parameters.ema_decay": between(0, 1),
    "hyper_parameters.max_grad_norm": between(0, 1e6),
    "hyper_parameters.checkpoint_steps": between(0, 100_000),
    "hyper_parameters.gradient_accumulation": between(0, 4096),
    "hyper_parameters.min_snr_gamma": between(0, 1e6),
    "hyper_parameters.precision": pattern("fp32|bf16|fp16", '"fp32", "bf16" or "fp16"', optional=True),
    "hyper_parameters.text_encoder_learning_rate": between(0, 1),
    "hyper_parameters.prior_weight": between(0, 1000),
    "hyper_parameters.optimizer": pattern("adamw|adamw_8bit", '"adamw" or "adamw_8bit"', optional=True),
    "hyper_parameters.validation_share": between(0, 0.5),
    "hyper_parameters.resolution": multiple(8, 4096),
}
