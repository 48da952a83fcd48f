"""A host dies in the middle of a night, with all it ran; another one with the same database and store goes on.

Everything is real but the distance: the bundled models, the services, PostgreSQL, and a folder both hosts mount for the
artifacts. What is compared are digests, and how often each image was made.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from konomi.client import Client
from konomi.files import derived_id
from konomi.home import Home
from konomi.host.session import open_session
from konomi.night.draws import Draw, image_seed
from konomi.night.gateway import messages
from konomi.night.gateway.services import NightServices
from konomi.night.records.journal import NAME
from konomi.night.systems.registry import night_settings
from konomi.v1 import rater_pb2
from tests.client.night import nights

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3000)]
TASTE, NIGHT = "tastes/default", "11111111-2222-4333-8444-555555555555"
CHUNK, IMAGES, EVALUATION = 4, 16, 16
SMALL = {
    **nights.SMALL,
    "KONOMI_NIGHT_STEPS": "10",
    "KONOMI_NIGHT_IMAGES": str(IMAGES),
    "KONOMI_NIGHT_EVALUATION_IMAGES": str(EVALUATION),
    "KONOMI_NIGHT_CHUNK": str(CHUNK),
    "KONOMI_THREADS": "1",
}
ASKED = ("night", "start", "converge", "--units", "1", "--seed", "7", "--request-id", NIGHT, "--anyway", "--json")
COUNTING = """
import os, sys
if "konomi_generator" in sys.orig_argv:
    from konomi_chassis.storage.artifacts import ArtifactStore
    kept = ArtifactStore.remember
    def remember(self, key, digest):
        kept(self, key, digest)
        with open(os.environ["MADE"], "a") as file:
            file.write(key + chr(10))
    ArtifactStore.remember = remember
"""
"""Makes every generator say which keys it made: nothing it leaves tells a second time from the first."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A home with a taste that likes red: 40 images of the base model, all graded, and a rater."""
    home = tmp_path_factory.mktemp("begun") / "home"
    with open_session(Home(home)) as session:
        session.client.rater.create_taste(taste_id="default", request_id=derived_id("taste"))
        fill(session.client, NightServices(session, TASTE))
    return home


def fill(client: Client, gateway: NightServices) -> None:
    prompts = ["portrait, red background", "portrait, blue background", "portrait, hat", "portrait"]
    draws = [Draw(prompts[n % 4], image_seed(0, "pool", n), "base") for n in range(40)]
    made = gateway.generate(draws, None, night_settings()(chunk=CHUNK), lambda *_more: None)
    gateway.add([messages.image(digest, draw) for digest, draw in zip(made, draws, strict=True)], "base")
    ranked = sorted(made, key=lambda digest: redness(client.artifacts.get(digest)))
    labels = [rater_pb2.Label(image_digest=digest, grade=1 + at // 8) for at, digest in enumerate(ranked)]
    client.rater.record_labels(taste=TASTE, labels=labels, request_id=derived_id("labels"))
    assert list(client.rater.fit_rater(taste=TASTE, seed=0, request_id=derived_id("fit")))


def redness(data: bytes) -> float:
    red, green, blue = Image.open(io.BytesIO(data)).convert("RGB").resize((1, 1)).getpixel((0, 0))
    return red - (green + blue) / 2


def environment(folder: Path, made: Path) -> dict[str, str]:
    shadow = folder / "shadow"
    shadow.mkdir(exist_ok=True)
    (shadow / "sitecustomize.py").write_text(COUNTING)
    return {**os.environ, **SMALL, "PYTHONPATH": str(shadow), "MADE": str(made), "LANG": "C.UTF-8"}


def konomi(home: Path, *words: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", "from konomi.cli import main; main()", *words, "--home", str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def told(child: subprocess.Popen) -> dict:
    try:
        out, err = child.communicate(timeout=900)
    finally:
        child.kill()
    assert child.returncode in (0, 5), err
    return json.loads(out.strip().splitlines()[-1])


def keys(made: Path) -> list[str]:
    return made.read_text().splitlines() if made.exists() else []


def outcome(said: dict, home: Path) -> dict:
    """What must not depend on where a night ran: scores have last bits that follow from which images came together."""
    state = json.loads((home / "nights" / said["night"] / "night.json").read_text())
    names = ("unit", "model", "adapter", "evaluation", "decision")
    units = [{name: unit.get(name) for name in names} for unit in state["units"]]
    manifests = [unit["selection"]["manifest"] for unit in state["units"] if "selection" in unit]
    return {"units": units, "manifests": manifests, "served": state["served"], "state": state["state"]}


def test_a_night_of_a_dead_host_ends_on_another_with_the_same_digests(begun, postgresql, tmp_path):
    alone = Path(shutil.copytree(begun, tmp_path / "alone", symlinks=True))
    expected_keys = tmp_path / "made-alone"
    expected = outcome(told(konomi(alone, *ASKED, env=environment(tmp_path, expected_keys))), alone)
    assert [unit["unit"] for unit in expected["units"]] == [0, 1]

    first, second, made = tmp_path / "first", tmp_path / "second", tmp_path / "made"
    shutil.copytree(begun, first, symlinks=True)
    shutil.copytree(begun / "models", second / "models", symlinks=True)
    (first / "artifacts").rename(tmp_path / "mount")
    url, mount = postgresql.database(), (tmp_path / "mount").as_uri()
    for home in (first, second):
        (home / "konomi.toml").write_text(f'[database]\nurl = "{url}"\n[store]\nurl = "{mount}"\n')
    moved = konomi(first, "storage", "migrate", "--json")
    assert set(told(moved)["roles"]) == {"rater", "trainer"}

    child = konomi(first, *ASKED, env=environment(tmp_path, made))
    try:
        until = time.monotonic() + 600
        while len(keys(made)) < EVALUATION + CHUNK + 2 and child.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        child.kill()
        for pid in nights.roles_of(first).values():
            nights.kill(pid)
    child.communicate()
    before, died = keys(made), time.monotonic()
    assert EVALUATION + CHUNK < len(before) < EVALUATION + IMAGES, "it died in the middle of a step"
    steps = len((first / "nights" / NIGHT / NAME).read_bytes().splitlines())
    assert not (first / "databases" / "night.sqlite").exists()

    child = konomi(second, "night", "resume", "--json", env=environment(tmp_path, made))
    try:
        while len(keys(made)) == len(before) and child.poll() is None:
            time.sleep(0.02)
        taken = time.monotonic() - died
        said = told(child)
    finally:
        child.kill()
    assert outcome(said, second) == expected
    twice = [key for key, times in Counter(keys(made)).items() if times > 1]
    assert set(keys(made)) == set(keys(expected_keys)) and len(twice) <= CHUNK, "only what was in flight is made again"
    with (second / "nights" / NIGHT / NAME).open("rb") as theirs, (first / "nights" / NIGHT / NAME).open("rb") as mine:
        assert theirs.readlines()[:steps] == mine.readlines()[:steps], "no finished step was done again"
    print(f"a night of a dead host: {taken:.1f} s from its death to the next image on another, {len(twice)} made twice")
