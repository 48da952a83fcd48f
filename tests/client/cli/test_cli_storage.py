"""`konomi storage` on a real home: real services, images of a night, a trained model; what a dry run names goes."""

import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from konomi.files import canonical
from konomi.home import Home
from konomi.host import supervisor
from konomi.host.session import OwnServices
from konomi.night.records.store import NightStore
from konomi.night.retention import kept
from konomi.v1 import generator_pb2 as generator
from konomi.v1 import rater_pb2 as pb
from konomi.v1 import trainer_pb2 as trainer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DAY = 86400.0
NIGHT = str(uuid.uuid4())


def konomi(home: Path, *words: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "konomi", "storage", *words, "--json", "--home", str(home)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def generate(client, count: int) -> list[str]:
    images = [generator.ImageRequest(prompt="portrait", seed=number) for number in range(count)]
    return [made.artifact.digest for made in client.generator.generate_images(images=images, steps=2)]


def fill(session: OwnServices, home: Path) -> dict[str, list[str]]:
    """Makes a night's images, grades two, trains on four, and leaves the record of a night that names one."""
    client = session.client
    client.rater.ensure_taste()
    digests = generate(client, 16)
    images = [
        pb.Image(digest=digest, source=pb.SOURCE_SELF, prompt="portrait", seed=n, unit="u1", night=NIGHT)
        for n, digest in enumerate(digests)
    ]
    requests = [pb.AddImagesRequest(taste="tastes/default", image=image) for image in images]
    assert not any(answer.HasField("error") for answer in client.rater.add_images(iter(requests)))
    graded, selected, named, rejected = digests[:2], digests[2:6], digests[6:7], digests[7:]
    labels = [pb.Label(image_digest=digest, grade=4) for digest in graded]
    client.rater.record_labels(taste="tastes/default", labels=labels, request_id=str(uuid.uuid4()))
    items = [{"digest": d, "caption": "portrait", "weight": 1.0, "role": "selected"} for d in sorted(selected)]
    manifest = client.artifacts.put(canonical({"schema": "konomi.manifest/1", "items": items}), "application/json")
    run = client.trainer.create_training_run(
        taste="tastes/default",
        manifest_digest=manifest.digest,
        method=trainer.TRAINING_METHOD_LORA,
        hyper_parameters=trainer.HyperParameters(steps=4, batch_size=2, checkpoint_steps=2),
        reports=trainer.CheckpointReports(adapters=True),
        request_id=str(uuid.uuid4()),
        display_name="unit-1",
    )
    done = list(client.trainer.watch_training_run(name=run.name))[-1]
    assert done.state == trainer.TRAINING_STATE_SUCCEEDED, done
    folder = home / "nights" / NIGHT
    folder.mkdir(parents=True)
    state = {"night": NIGHT, "state": "finished", "units": [{"unit": 0, "evaluation": named}]}
    (folder / "night.json").write_text(json.dumps(state))
    request = {"id": NIGHT, "asked": "x", "taste": "tastes/default", "system": "converge", "seed": 0, "prompts": []}
    (folder / "request.json").write_text(
        json.dumps({**request, "evaluation_prompts": [], "settings": {}, "guards": {}})
    )
    adapters = [checkpoint.adapter_digest for checkpoint in done.checkpoints]
    model = client.trainer.get_model(name=done.model)
    superseded = sorted(set(adapters) - {model.adapter_digest})
    return {
        "graded": graded,
        "selected": selected,
        "named": named,
        "rejected": sorted(rejected),
        "model": [model.adapter_digest],
        "superseded": superseded,
    }


def make_old(home: Path) -> None:
    """Lets forty days pass over all that lies in the store."""
    then = time.time() - 40 * DAY
    for path in (home / "artifacts").rglob("*"):
        os.utime(path, (then, then))


def there(home: Path, digest: str) -> bool:
    path = home / "artifacts" / digest[:2] / digest
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


@pytest.fixture(scope="module")
def old_home(tmp_path_factory):
    """A home on which all services run: images of a night, two graded, four trained on, one named by the night."""
    home = tmp_path_factory.mktemp("storage") / "home"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KONOMI_HOME", str(home))
        with supervisor.running(Home(home)) as services:
            session = OwnServices(Home(home), services)
            made = fill(session, home)
            make_old(home)
            yield home, made, session.client
            session.client.close()


def policy(home: Path, keep_units: int, checkpoint_days: float = 0) -> None:
    """Sets a policy by which an image that was made a moment ago is old."""
    (home / "konomi.toml").write_text(
        f"[storage]\nrejected_days = 0.00001\ncheckpoint_days = {checkpoint_days}\nkeep_units = {keep_units}\n"
    )


def test_what_is_young_stays_and_the_newest_units_do(old_home):
    home, made, _ = old_home
    assert konomi(home, "collect", "--dry-run")["images"]["count"] == 0, "younger than 30 days"
    policy(home, 2)
    assert konomi(home, "collect")["images"]["count"] == 0, "of the newest units"
    assert all(there(home, digest) for digest in made["rejected"])


def test_images_of_a_night_that_can_go_on_stay(old_home):
    home, made, client = old_home
    policy(home, 0)
    path = home / "nights" / NIGHT / "night.json"
    ended = path.read_text()
    path.write_text(json.dumps({**json.loads(ended), "state": "interrupted"}))
    keep = kept(client, NightStore(home))
    assert keep.nights == {NIGHT} and set(made["named"]) <= keep.digests and len(keep.artifacts) == 1
    assert konomi(home, "collect")["images"]["count"] == 0
    path.write_text(ended)
    assert kept(client, NightStore(home)).nights == frozenset()


def test_a_dry_run_names_exactly_what_then_goes_and_all_else_stays(old_home):
    home, made, client = old_home
    policy(home, 0, 7)
    cached = home / "cache" / "page" / "thumb" / "ab" / ("ab" + "0" * 62 + ".webp")
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"x" * 50)
    os.utime(cached, (0, 0))
    before = {path for path in home.joinpath("artifacts").rglob("*") if path.is_file()}
    seen = konomi(home)
    rows = {row["kind"]: row for row in seen["kinds"]}
    assert (rows["images graded"]["count"], rows["images selected"]["count"]) == (2, 5)
    assert rows["images rejected"]["may_go"]["count"] == rows["images rejected"]["count"] == 9
    assert rows["adapters"]["count"] == 1 and rows["databases"]["bytes"] > 0 and seen["policy"]["keep_units"] == 0
    dry = konomi(home, "collect", "--dry-run")
    assert dry["images"]["digests"] == made["rejected"] and dry["checkpoints"]["digests"] == made["superseded"]
    assert dry["caches"]["count"] == 1 and cached.exists()
    assert {path for path in home.joinpath("artifacts").rglob("*") if path.is_file()} == before
    done = konomi(home, "collect")
    assert not cached.exists()
    for kind in ("images", "checkpoints"):
        assert (done[kind]["count"], done[kind]["bytes"]) == (dry[kind]["count"], dry[kind]["bytes"]), kind
    for kind in ("graded", "selected", "named", "model"):
        assert all(there(home, digest) for digest in made[kind]), kind
    assert not any(there(home, digest) for digest in (*made["rejected"], *made["superseded"]))
    after = konomi(home)
    assert after["collected_images"] == 9 and konomi(home, "collect")["images"]["count"] == 0
    listed = client.rater.list_images(taste="tastes/default", page_size=100).images
    assert {image.digest for image in listed if image.pixels_collected} == set(made["rejected"])
