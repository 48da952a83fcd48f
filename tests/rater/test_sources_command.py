"""`konomi sources` and `konomi import --consent` against a real rater, the trainer being a small one with two units."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from konomi.files import canonical
from konomi.home import Home
from konomi.v1 import trainer_pb2, trainer_pb2_grpc
from tests.rater.conftest import png


class Trainer(trainer_pb2_grpc.TrainerServiceServicer):
    """Knows two units, each by the manifest it was trained on."""

    def __init__(self, manifests: dict[str, str]):
        self.manifests = manifests

    def ListModels(self, request, context):
        models = [
            trainer_pb2.Model(
                name=f"models/{name}", display_name=name, manifest_digest=digest, current=name == "unit-2"
            )
            for name, digest in self.manifests.items()
        ]
        return trainer_pb2.ListModelsResponse(models=models)


@pytest.fixture
def shell(rater):
    """Runs `konomi ARGUMENTS` on the rater's home; `manifests` are the units' of the trainer beside it."""
    manifests: dict[str, str] = {}
    server = grpc.server(ThreadPoolExecutor(2))
    trainer_pb2_grpc.add_TrainerServiceServicer_to_server(Trainer(manifests), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    home = Home(rater.home)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "KONOMI_HOME": str(rater.home), "LC_ALL": "C.UTF-8"}
        command = [sys.executable, "-m", "konomi", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)

    run.manifests = manifests
    with home.held():
        home.up_file.write_text(json.dumps({"rater": rater.address, "trainer": f"127.0.0.1:{port}"}))
        yield run
    server.stop(None).wait()


def said(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_from_a_consent_to_its_revocation(rater, library, shell, tmp_path: Path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png((200, 20 * number, 0), seed=800 + number))
    recorded = shell("sources", "consent", "mail-1", "--giver", "A. Painter", "--licence", "CC0-1.0")
    assert (recorded.returncode, recorded.stdout.strip()) == (0, "recorded mail-1 by A. Painter: 0 images")
    brought = said(shell("import", str(folder), "--consent", "mail-1", "--licence", "CC0-1.0", "--json"))
    assert brought["added"] == 3
    ledger = said(shell("sources", "list", "--json"))
    assert ledger["sources"]["consented"] == {"images": 3, "ur": 0, "weight": 0.5}
    assert ledger["sources"]["self"]["images"] == 120
    theirs = [one["digest"] for one in ledger["images"]]
    assert {(one["source"], one["licence"], one["consent"], one["weight"]) for one in ledger["images"]} == {
        ("consented", "CC0-1.0", "mail-1", 0.5)
    }
    assert [(one["reference"], one["giver"], one["images"]) for one in ledger["consents"]] == [
        ("mail-1", "A. Painter", 3)
    ]
    for name, digests in (("unit-1", library.digests[:4]), ("unit-2", [*library.digests[:2], *theirs[:2]])):
        items = [{"digest": digest, "caption": "", "weight": 1.0, "role": "selected"} for digest in digests]
        manifest = canonical({"schema": "konomi.manifest/1", "items": items})
        shell.manifests[name] = rater.store.put(manifest, "application/json").digest
    done = said(shell("sources", "revoke", "mail-1", "--why", "asked by mail", "--json"))
    assert sorted(done["revoked"]) == sorted(theirs)
    touched = {"model": "unit-2", "display_name": "unit-2", "current": True, "images": 2, "of": 4}
    assert done["affected"] == [touched]
    ledger = said(shell("sources", "list", "--json"))
    assert (ledger["images"], ledger["affected"]) == ([], [touched])
    assert {one["why"] for one in ledger["revocations"]} == {"asked by mail"}
    shown = shell("sources", "list")
    assert "unit-2 was trained on 2 revoked images *" in shown.stdout
    assert "konomi night start golden" in shown.stderr
    again = shell("import", str(folder), "--consent", "mail-1")
    assert again.returncode == 1
    assert "left this taste for good" in again.stderr


def test_single_images_go_by_their_first_digits_and_in_japanese(library, shell):
    first = library.digests[5][:10]
    done = shell("--lang", "ja", "sources", "revoke", "--image", first)
    assert (done.returncode, done.stdout.strip()) == (0, "1 枚の画像を取り消しました")


WRONG = (
    (("sources", "revoke"), 2, "one of the two"),
    (("sources", "revoke", "mail-9"), 1, "found none called 'mail-9'"),
    (("sources", "consent", "mail-1", "--giver", " "), 2, "expected the giver"),
    (("import", "nowhere", "--consent", "a", "--scraped"), 2, "not both"),
)


def test_what_cannot_be_says_why(library, shell):
    for arguments, code, words in WRONG:
        done = shell(*arguments)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
