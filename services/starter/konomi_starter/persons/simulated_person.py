"""The simulated person: looks at images through the attribute reader, grades honestly, speaks JSON lines."""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError
from konomi_starter.data.renderer import SIZE
from konomi_starter.persons.utility import Person, Tiers, fix_tiers, spoken_grade
from konomi_starter.training import embedding, realism
from konomi_starter.training.attribute_reader import load as load_reader


class SimulatedPerson:
    """Grades images named by digest.

    Args:
        person: the hidden taste.
        models: folder of the installed starter models.
        fetch: returns the bytes of an artifact.
    """

    def __init__(self, person: Person, models: Path, fetch: Callable[[str], bytes]) -> None:
        self.person = person
        self.models = models
        self.fetch = fetch
        self.reader = load_reader(models / "reader" / "model.safetensors")
        self.embedder = embedding.load(models / "embedder")
        self.tiers: Tiers | None = None

    def look(self, digests: Sequence[str]) -> np.ndarray:
        """Returns (N, 64, 64, 3) uint8 of the images, scaled to the size the reader knows."""
        images = [Image.open(io.BytesIO(self.fetch(digest)), formats=("PNG",)).convert("RGB") for digest in digests]
        return np.stack(
            [np.asarray(image.resize((SIZE, SIZE)) if image.size != (SIZE, SIZE) else image) for image in images]
        )

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answers one request: tiers, grade or truth.

        Raises:
            InvalidArgument: an unknown operation or no digests.
            FailedPrecondition: grades were asked for before the tiers were fixed.
        """
        operation, digests = request.get("op"), request.get("digests")
        if operation not in ("tiers", "grade", "truth") or not isinstance(digests, list) or not digests:
            raise InvalidArgument('expected {"op": "tiers" | "grade" | "truth", "digests": [at least one]}')
        pixels = self.look(digests)
        utilities = [self.person.utility(record) for record in self.reader.read(pixels)]
        if operation == "tiers":
            self.tiers = fix_tiers(utilities)
            return {"cuts": list(self.tiers.cuts)}
        if self.tiers is None:
            raise FailedPrecondition("the tiers are not fixed yet; send the op tiers first")
        if operation == "grade":
            seed = int(request.get("seed", 0))
            spoken = zip(utilities, digests, strict=True)
            return {"grades": [spoken_grade(self.person, self.tiers, u, digest, seed) for u, digest in spoken]}
        broken = realism.broken_share(
            embedding.embed(self.embedder, pixels), self.models / "reader" / "realism.safetensors"
        )
        return {"utilities": utilities, "grades": [self.tiers.grade(u) for u in utilities], "realism": 1 - broken}


def converse(person: SimulatedPerson, lines: Iterable[str], out: TextIO) -> None:
    """Introduces the person, then answers one JSON object per line until {"op": "close"} or the end of input."""
    introduction = {"name": person.person.name, "weights": dict(person.person.weights), "noise": person.person.noise}
    print(json.dumps(introduction, ensure_ascii=False), file=out, flush=True)
    for line in lines:
        request = json.loads(line)
        if request.get("op") == "close":
            return
        try:
            answer = person.answer(request)
        except KonomiError as error:
            answer = {"error": error.message, "reason": error.reason}
        print(json.dumps(answer), file=out, flush=True)
