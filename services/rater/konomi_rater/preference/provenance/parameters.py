"""How an image was made, as a table for trees: parameters by name, words and phrases of the prompt, the model."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

MOST_WORDS = 96
"""Words and phrases at most; the most frequent are kept."""
LEAST_SEEN = 5
"""Images a word must be in and missing from: below, a tree could not split on it anyway."""


@dataclass(frozen=True)
class Provenance:
    """How an image was made.

    Attributes:
        prompt: its prompt.
        unit: the model that made it, here or elsewhere; empty when that is not known.
        parameters: for example guidance_scale, adapter_scale.
    """

    prompt: str = ""
    unit: str = ""
    parameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """The columns of the table: parameters, then words and phrases, then models."""

    parameters: tuple[str, ...]
    words: tuple[str, ...]
    units: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.parameters) + len(self.words) + len(self.units)

    def table(self, provenances: Sequence[Provenance | None]) -> np.ndarray:
        """Returns (N, C) float64; nan for what is not known of an image, 1 or 0 for words and models."""
        rows: dict[tuple[str, str, int], np.ndarray] = {}
        word_rows: dict[str, np.ndarray] = {}
        table = np.full((len(provenances), len(self)), np.nan)
        for place, provenance in enumerate(provenances):
            if provenance is None:
                continue
            alike = (provenance.prompt, provenance.unit, id(provenance.parameters))
            if alike not in rows:
                rows[alike] = self._row(provenance, word_rows)
            table[place] = rows[alike]
        return table

    def _row(self, provenance: Provenance, word_rows: dict[str, np.ndarray]) -> np.ndarray:
        prompt = provenance.prompt
        if prompt not in word_rows:
            terms = set(terms_of(prompt))
            word_rows[prompt] = np.array([word in terms for word in self.words], np.float64)
        numbers = [provenance.parameters.get(name, np.nan) for name in self.parameters]
        return np.concatenate([numbers, word_rows[prompt], [provenance.unit == unit for unit in self.units]])


def terms_of(prompt: str) -> list[str]:
    """Returns the words of a prompt and its comma-separated phrases of several words, lower case, each once."""
    phrases = [" ".join(re.findall(r"\w+", phrase)) for phrase in prompt.lower().split(",")]
    words = [word for phrase in phrases for word in phrase.split()]
    return list(dict.fromkeys([*words, *(phrase for phrase in phrases if " " in phrase)]))


def learn_columns(provenances: Sequence[Provenance]) -> Columns:
    """Chooses the columns that differ among n images often enough to be split on."""
    names = sorted({name for provenance in provenances for name in provenance.parameters})
    parameters = [name for name in names if len({provenance.parameters.get(name) for provenance in provenances}) > 1]
    words = _frequent((terms_of(provenance.prompt) for provenance in provenances), len(provenances))[:MOST_WORDS]
    units = _frequent(((provenance.unit,) for provenance in provenances), len(provenances))
    return Columns(tuple(parameters), tuple(words), tuple(units))


def _frequent(terms: Iterable[Iterable[str]], count: int) -> list[str]:
    seen = Counter(term for image_terms in terms for term in image_terms)
    telling = [term for term, times in seen.items() if LEAST_SEEN <= times <= count - LEAST_SEEN]
    return sorted(telling, key=lambda term: (-seen[term], term))
