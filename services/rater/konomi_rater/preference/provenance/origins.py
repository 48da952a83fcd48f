"""How an image was made, as columns beside its features: a Gaussian process weighs them with a variance of their own.

One column a model, 1 where it made the image, and one a number (guidance, steps, adapter scales), standardised. What is
not known of an image is 0, the prior's mean: it then says nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from konomi_rater.preference.provenance.parameters import Provenance

LEAST_OF_MODEL = 3
"""Labelled images a model must have made: of fewer, what is the model's and what the image's cannot be told apart."""
LEAST_MODELS = 2
"""Models below which there is nothing to tell apart, and no columns."""
MOST = 1.5
"""Most a number says, in what it is divided by: a line through the labelled ones is not followed beyond them."""


@dataclass(frozen=True)
class Origins:
    """The columns: models, then numbers.

    Attributes:
        models: names of the models.
        numbers: names of the parameters.
        centres: the mean of each number, one a name.
        spreads: what each is divided by: its deviation times the root of how many there are, so that all numbers
            together weigh as much as one model.
    """

    models: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    centres: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.models) + len(self.numbers)

    def unknown(self) -> "Origins":
        """Returns as many columns that no image has anything in."""
        nobody = ("",) * len(self)  # an image whose model is not known is in no column
        return Origins(nobody)

    def table(self, provenances: Sequence[Provenance | None] | None, count: int) -> np.ndarray:
        """Returns (count, C) float64: zeros where nothing is known, everywhere where no provenances are given."""
        table = np.zeros((count, len(self)))
        rows: dict[tuple[str, int], np.ndarray] = {}
        for place, provenance in enumerate(provenances or ()):
            if provenance is None:
                continue
            alike = (provenance.unit, id(provenance.parameters))
            if alike not in rows:
                rows[alike] = self._row(provenance)
            table[place] = rows[alike]
        return table

    def _row(self, provenance: Provenance) -> np.ndarray:
        said = [provenance.parameters.get(name) for name in self.numbers]
        numbers = [
            0.0 if value is None else float(np.clip((value - centre) / spread, -MOST, MOST))
            for value, centre, spread in zip(said, self.centres, self.spreads, strict=True)
        ]
        return np.array([*(provenance.unit == model != "" for model in self.models), *numbers], np.float64)


def learn_origins(provenances: Sequence[Provenance | None]) -> Origins:
    """Chooses the columns that differ among labelled images; none where fewer than LEAST_MODELS models are known."""
    known = [provenance for provenance in provenances if provenance is not None]
    made = Counter(provenance.unit for provenance in known if provenance.unit)
    models = sorted(model for model, count in made.items() if count >= LEAST_OF_MODEL)
    if len(models) < LEAST_MODELS:
        return Origins()
    kept = {}
    for name in sorted({name for provenance in known for name in provenance.parameters}):
        values = np.array([one.parameters[name] for one in known if name in one.parameters])
        if len(values) >= LEAST_OF_MODEL and values.std() > 1e-9 * max(1.0, float(np.abs(values).max())):
            kept[name] = (float(values.mean()), float(values.std()))
    root = float(np.sqrt(max(1, len(kept))))
    centres, spreads = [mean for mean, _ in kept.values()], [spread * root for _, spread in kept.values()]
    return Origins(tuple(models), tuple(kept), tuple(centres), tuple(spreads))
