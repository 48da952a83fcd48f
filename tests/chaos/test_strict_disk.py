"""On a disk as strict as POSIX allows, everything acknowledged has its bytes and every name above it synced.

Finds what no cut on ext4 can: there one sync makes all names durable.
"""

import shutil

import pytest

from tests.chaos.strict_disk import trace

ARTIFACTS = """
import sys
from pathlib import Path
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from tests.chaos import writers
writers.weaken(sys.argv[2])
store = ArtifactStore(StoreSettings(home=Path(sys.argv[1]), min_free_bytes=0))
for number in range(int(sys.argv[3])):
    digest = store.put(b"%d" % number, "image/png").digest
    print(f"artifacts/{digest[:2]}/{digest}", f"artifacts/{digest[:2]}/{digest}.type", sep="\\n")
"""
PUT_AND_DIE = """
import sys
from pathlib import Path
from tests.chaos import writers
writers.put_and_die(Path(sys.argv[1]), print, b"0", "artifact.before_folder_fsync@2")
"""
DATABASES = """
import sys
from pathlib import Path
from tests.chaos import writers
home = Path(sys.argv[1])
engine = writers.open_rater(home)
with engine.begin() as connection:
    writers.tastes.create(connection, "t", "", "starter", "starter", 0.0)
print("databases/rater.sqlite", "databases/rater.sqlite-wal", sep="\\n", flush=True)
import os; os._exit(0)
"""
FILES = """
import sys
from pathlib import Path
from konomi.files import write_atomically, write_json
from konomi_chassis.auth.tokens import ensure_owner_token
from konomi_trainer.training.checkpoints import Checkpoints
home = Path(sys.argv[1])
write_atomically(home / "konomi.toml", b"")
write_json(home / "nights" / "one" / "night.json", {})
ensure_owner_token(home)
Checkpoints(home / "runs" / "r" / "checkpoints").save(1, {}, {"a": 1})
print("konomi.toml", "nights/one/night.json", "tokens/tokens.json", "tokens/owner.token", sep="\\n")
print("runs/r/checkpoints/step-00000001.json", "runs/r/checkpoints/step-00000001.safetensors", sep="\\n")
"""

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace lists the system calls"),
]


@pytest.fixture
def home(tmp_path):
    return tmp_path / "made" / "home"


def lost_of(code, home, tmp_path, *arguments):
    """Returns what a cut would take of each file that was acknowledged."""
    said, disk = trace(code, [str(home), *arguments], tmp_path / "trace", tmp_path)
    assert said
    return {name: disk.lost(home / name) for name in said}


@pytest.mark.parametrize("code", [DATABASES, FILES], ids=["databases", "files"])
def test_what_is_written_is_whole(code, home, tmp_path):
    lost = lost_of(code, home, tmp_path)
    assert lost == {name: [] for name in lost}


def test_artifacts_are_whole(home, tmp_path):
    lost = lost_of(ARTIFACTS, home, tmp_path, "none", "30")
    assert lost == {name: [] for name in lost} and len(lost) == 60


@pytest.mark.parametrize("mutant", ["no sync of a new prefix folder", "no sync of folders"])
def test_artifacts_without_a_sync_are_found_out(home, tmp_path, mutant):
    assert any(lost_of(ARTIFACTS, home, tmp_path, mutant, "3").values())


@pytest.mark.parametrize("mutant", ["none", "no sync of what was there already"])
def test_an_artifact_that_was_killed_and_sent_again(home, tmp_path, mutant):
    """The first process's calls are replayed too: what it left unsynced is still so when the second one finds it."""
    code = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PUT_AND_DIE!r}, sys.argv[1]]);"
        f"exec({ARTIFACTS!r})"
    )
    lost = lost_of(code, home, tmp_path, mutant, "1")
    assert any(lost.values()) == (mutant != "none"), lost


def test_an_imported_model_is_whole(home, tmp_path):
    """A folder of several parts: every file, every name in it, and its own name."""
    code = (
        "import sys; from pathlib import Path; from konomi_generator.model_import.importer import put;"
        "put(Path(sys.argv[2]), Path(sys.argv[1]), 'tiny', convert=False);"
        "print(*(p.relative_to(sys.argv[1]) for p in (Path(sys.argv[1]) / 'models').rglob('*')), sep='\\n')"
    )
    from tests.generator import tiny_models

    source = tmp_path / "source"
    tiny_models.sd1().save_pretrained(source)
    lost = lost_of(code, home, tmp_path, str(source))
    assert lost == {name: [] for name in lost} and len(lost) > 8
