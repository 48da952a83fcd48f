"""The concepts a Custom Diffusion run binds: token, class word, initial word, and the rules for them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from konomi.errors import InvalidArgument
from konomi_trainer.data.manifest import ManifestItem

TOKEN, WORD, MAX_CONCEPTS = re.compile(r"<[a-z0-9][a-z0-9_-]{0,30}>"), re.compile(r"[^\x00-\x1f<>]{1,64}"), 16


@dataclass(frozen=True)
class Concept:
    """One concept.

    Attributes:
        token: V*, for example "<cat-1>".
        class_word: what it is one of, for example "cat"; the captions say "<cat-1> cat".
        initial_word: the word its embedding starts from; "" takes a rare token of the base model.
    """

    token: str
    class_word: str
    initial_word: str = ""


def check(concepts: Sequence[Concept]) -> tuple[Concept, ...]:
    """Returns the concepts of a request.

    Raises:
        InvalidArgument: none or too many, a malformed token or word, or a token given twice; the field is named.
    """
    if not 1 <= len(concepts) <= MAX_CONCEPTS:
        message = f"expected 1 to {MAX_CONCEPTS} concepts for a method that binds words; came {len(concepts)}"
        raise InvalidArgument(message, reason="CONCEPTS", field="concepts")
    for index, concept in enumerate(concepts):
        if not TOKEN.fullmatch(concept.token):
            raise _refuse(
                index, "token", 'lower-case letters, digits, "-" and "_" in <>, like "<cat-1>"', concept.token
            )
        if not WORD.fullmatch(concept.class_word):
            raise _refuse(index, "class_word", 'what the concept is one of, like "cat"', concept.class_word)
        if concept.initial_word and not WORD.fullmatch(concept.initial_word):
            raise _refuse(index, "initial_word", "a word or nothing", concept.initial_word)
        if concept.token in [other.token for other in concepts[:index]]:
            raise _refuse(index, "token", "every token once", concept.token)
    return tuple(concepts)


def of_request(method: str, binds: bool, rows: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], ...]:
    """Returns the concepts of a request as a configuration holds them.

    Args:
        method: its name.
        binds: whether it binds concepts.
        rows: the concepts as plain mappings.

    Raises:
        InvalidArgument: see `check`; or a method that binds none came with concepts.
    """
    if binds:
        return tuple(dict(vars(concept)) for concept in check(from_rows(rows)))
    if rows:
        message = (
            f"expected no concepts for the method {method}; came {len(rows)}: choose Custom Diffusion or concept_lora"
        )
        raise InvalidArgument(message, reason="CONCEPTS", field="concepts")
    return ()


def check_captions(concepts: Sequence[Concept], items: Iterable[ManifestItem]) -> None:
    """Refuses a set in which a concept's token stands in no caption of a selected image.

    Raises:
        InvalidArgument: the concept is named.
    """
    captions = [item.caption for item in items if item.role == "selected"]
    for index, concept in enumerate(concepts):
        if not any(concept.token in caption for caption in captions):
            raise InvalidArgument(
                f'expected a caption with {concept.token} among the selected images, for example "photo of a '
                f'{concept.token} {concept.class_word}"; came none: write it into the manifest',
                reason="CONCEPT_UNUSED",
                field=f"concepts[{index}].token",
            )


def from_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[Concept, ...]:
    """Returns concepts from plain mappings, as configurations and file headers hold them."""
    return tuple(Concept(**row) for row in rows)


def _refuse(index: int, name: str, expected: str, came: str) -> InvalidArgument:
    message = f"concepts[{index}].{name}: expected {expected}; came {came[:80]!r}"
    return InvalidArgument(message, reason="CONCEPTS", field=f"concepts[{index}].{name}")
