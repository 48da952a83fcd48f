"""One real night of foreign prompts on the bundled base model: what is said of it, and what it serves.

Method: an empty home with its real services; 60 pictures made elsewhere (of one of `own_pictures`' kinds) are imported,
40 of them graded by a hidden taste (warm or bright ones, with some noise), a rater is fitted. Then prompts no starter
image was made from. First `konomi night start` as a person types it, which ought to refuse with the warning before
anything is drawn but the trial; then the same with `--anyway`, a whole night to its morning, all guards on. A unit is
served unwarned where the night ends with one in use and neither its record nor its report carries the warning.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from konomi.client import Client, connect_home
from konomi.night.records.store import NightStore
from konomi.night.records.trial import warning
from konomi.v1 import rater_pb2 as rater
from tests.benchmarks.demo.own_pictures import KINDS, picture

PICTURES, GRADED = 60, 40
TASTE = "tastes/default"
PROMPTS = (
    "a temple in china, evening light",
    "a street at night in the rain",
    "waves on a rocky shore",
    "a bowl of ramen on a wooden table",
    "a steam engine crossing a bridge",
    "a wood in the fog",
    "a cat asleep on a windowsill",
    "an old map of an island",
    "a market in marrakesh",
    "a glass house full of ferns",
)
REFUSED = 4
"""Exit code of a night that is refused."""
SAID = "cannot draw"
"""What the report of a warned night says, among the rest."""


@dataclass(frozen=True)
class ForeignNight:
    """How one such night went.

    Attributes:
        seed: of the pictures, of the taste, of the night.
        kind: what the pictures show.
        refused: whether the plain start was refused with the warning.
        state: how the night with `--anyway` ended.
        reason: the alarm it ended by; "" where it has none.
        served: the unit in use afterwards; 0 is the base model.
        recorded: whether the night's record holds the warning.
        reported: whether its report says it.
        seconds: of the whole night.
    """

    seed: int
    kind: str
    refused: bool
    state: str
    reason: str
    served: int
    recorded: bool
    reported: bool
    seconds: float

    @property
    def unwarned(self) -> bool:
        """Whether a unit is served that nobody was warned of."""
        return self.served > 0 and not (self.recorded and self.reported)


def sleep(seed: int, home: Path, images: int) -> ForeignNight:
    """Lives one evening and one night of foreign prompts on an empty home.

    Args:
        seed: of everything.
        home: an empty folder.
        images: images of a unit.
    """
    kind = KINDS[seed % len(KINDS)]
    with running(home):
        with connect_home(home) as client:
            bring(client, kind, seed)
        file = home / "prompts.txt"
        file.write_text("\n".join(PROMPTS[(seed + step) % len(PROMPTS)] for step in range(4)), "utf-8")
        command = ["night", "start", "converge", "--units", "1", "--images", str(images), "--seed", str(seed)]
        command += ["--prompts", str(file), "--json"]
        plain = konomi(home, *command)
        refused = plain.returncode == REFUSED and SAID in plain.stderr
        began = time.monotonic()
        konomi(home, *command, "--anyway")
        seconds = time.monotonic() - began
        status = json.loads(konomi(home, "night", "status", "--json").stdout.splitlines()[-1])
        konomi(home, "night", "report")
    tried = NightStore(home).trial(status["night"])
    report = home / "report" / f"{status['night']}.html"
    return ForeignNight(
        seed,
        kind,
        refused,
        status["state"],
        (status["reason"] or {}).get("name", ""),
        (status["in_use"] or {}).get("unit", 0),
        tried is not None and warning(tried) is not None,
        report.exists() and SAID in report.read_text("utf-8"),
        seconds,
    )


def bring(client: Client, kind: str, seed: int) -> None:
    """Imports pictures made elsewhere, grades two thirds of them by a hidden taste, and fits a rater."""
    rng = np.random.default_rng((41, seed))
    pixels = [picture(kind, rng) for _ in range(PICTURES)]
    client.rater.ensure_taste("default")
    digests = [client.artifacts.put(png(one), "image/png").digest for one in pixels]
    images = [rater.Image(digest=digest, source=rater.SOURCE_IMPORTED, path=f"{kind}.png") for digest in digests]
    replies = list(client.rater.add_images(rater.AddImagesRequest(taste=TASTE, image=image) for image in images))
    assert not [reply.error.message for reply in replies if reply.HasField("error")]
    means = np.stack([one.reshape(-1, 3).mean(axis=0) for one in pixels])
    liking = means[:, 0] - means[:, 2] if seed % 2 and kind != "grey" else means.sum(axis=1)
    liking = liking + rng.normal(0, 0.3 * liking.std(), PICTURES)
    grades = 1 + np.searchsorted(np.quantile(liking, (0.3, 0.6, 0.82, 0.94)), liking)
    labels = [
        rater.Label(image_digest=digest, grade=rater.Grade.ValueType(int(grade)))
        for digest, grade in list(zip(digests, grades, strict=True))[:GRADED]
    ]
    client.rater.record_labels(taste=TASTE, labels=labels)
    list(client.rater.fit_rater(taste=TASTE))


def png(pixels: np.ndarray) -> bytes:
    """Returns the PNG of an image, (H, W, 3) uint8."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def konomi(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command on a home."""
    command = [sys.executable, "-m", "konomi", "--home", str(home), *words]
    return subprocess.run(command, env=_settings(), capture_output=True, text=True, timeout=3600, check=False)


@contextmanager
def running(home: Path) -> Iterator[None]:
    """Runs `konomi up` on a home meanwhile, on ports of its own."""
    ports = [word for role in ("rater", "generator", "trainer", "page") for word in (f"--port-{role}", "0")]
    command = [sys.executable, "-m", "konomi", "--home", str(home), "up", "--json", *ports]
    up = subprocess.Popen(command, env=_settings(), stdout=subprocess.PIPE, text=True)
    try:
        assert up.stdout is not None and up.stdout.readline()
        yield
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(timeout=120)


def _settings() -> dict[str, str]:
    """Returns the environment of every command: English, and no disk kept free on a machine of many jobs."""
    return os.environ | {"KONOMI_NIGHT_RESERVE_GIB": "0", "LC_ALL": "C.UTF-8"}
