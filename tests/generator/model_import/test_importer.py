"""`konomi models import`: checked copies, pickles only converted in a child that may do nothing, canaries that stay."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from konomi.cli import commands
from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi_chassis.models.catalogue import BaseModels
from konomi_generator.model_import import importer
from tests.generator.test_base_models import BESIDE

DOOR = """
import os, socket, sys, ctypes
from konomi_generator.model_import import conversion_worker
conversion_worker.warm_up()
conversion_worker.drop_privileges(64 << 30)
def tried(what):
    try:
        what()
    except OSError:
        return "no"
    return "yes"
print([tried(what) for what in (
    lambda: open("/etc/hostname"), lambda: open(sys.argv[1], "w"), lambda: os.mkdir(sys.argv[1] + ".d"),
    lambda: os.unlink(sys.argv[2]), lambda: os.fork(), lambda: os.execv("/bin/true", ["true"]),
    lambda: socket.socket().connect(("127.0.0.1", int(sys.argv[3]))), lambda: os.kill(os.getppid(), 0),
    lambda: os.rename(sys.argv[2], sys.argv[1]), lambda: os.chmod(sys.argv[2], 0o777),
)], os.system("touch " + sys.argv[1]), os.geteuid())
"""


MANY = """
import io, json, pathlib, sys
from konomi_generator.model_import import conversion_worker
given = {path: pathlib.Path(path).read_bytes() for path in sys.argv[1:]}
conversion_worker.warm_up()
conversion_worker.drop_privileges(64 << 30)
said = {}
for path, data in given.items():
    try:
        said[path.rpartition("/")[2]] = f"read: {len(conversion_worker.tensors_of(io.BytesIO(data)))}"
    except Exception as error:
        said[path.rpartition("/")[2]] = f"refused: {type(error).__name__} {error}"
print(json.dumps(said))
"""


class Call:
    """A pickle that calls something when it is loaded."""

    def __init__(self, function, *given: object) -> None:
        self.function, self.given = function, given

    def __reduce__(self):
        return self.function, self.given


@pytest.fixture
def checkpoint(home: Path, tmp_path: Path) -> Path:
    """An SD 1.x checkpoint as people pass them on: a pickle with training state beside the weights."""
    weights = load_file(home / "models" / "sd1-file.safetensors")
    path = tmp_path / "Anything V3 (pruned).ckpt"
    torch.save({"state_dict": weights, "epoch": 3, "global_step": 1000, "lr": 1e-4}, path)
    return path


def refused(kind: type[KonomiError], source: Path, home: Path, *, convert: bool = False) -> KonomiError:
    with pytest.raises(kind) as caught:
        importer.put(source, home, "", convert=convert)
    assert not [p for p in home.rglob("*") if p.is_file()] and not list(home.glob(".import-*"))
    return caught.value


@pytest.mark.slow
def test_a_checkpoint_becomes_safetensors_once_and_only_the_copy_is_left(
    checkpoint: Path, home: Path, tmp_path
) -> None:
    own = tmp_path / "home"
    said = importer.put(checkpoint, own, "", convert=True)
    assert said["id"] == "anything-v3-pruned" and said["layout"] == "sd1" and said["converted"]
    names = ["anything-v3-pruned.safetensors", "anything-v3-pruned.toml"]
    assert sorted(path.name for path in (own / "models").iterdir()) == names
    assert said["settings_file"] == str(own / "models" / names[1])
    found = load_file(own / "models" / "anything-v3-pruned.safetensors")
    expected = load_file(home / "models" / "sd1-file.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert BaseModels(own).get("anything-v3-pruned").parameters == BaseModels(home).get("sd1-file").parameters
    with pytest.raises(AlreadyExists):
        importer.put(checkpoint, own, "", convert=True)


@pytest.mark.slow
def test_folders_and_files_are_checked_and_copied(home: Path, tmp_path: Path) -> None:
    own = tmp_path / "home"
    for source, id in ((home / "models" / "sd2", "two"), (home / "models" / "sdxl-file.safetensors", "big")):
        importer.put(source, own, id, convert=False)
        before = BaseModels(home).get(source.name.removesuffix(".safetensors"))
        assert BaseModels(own).digest(BaseModels(own).get(id)) == BaseModels(home).digest(before)
    assert sorted(BaseModels(own).ids()) == ["big", "two"] and not list(own.glob(".import-*"))


@pytest.mark.slow
def test_what_is_no_model_is_refused_and_leaves_nothing(checkpoint: Path, home: Path, tmp_path: Path) -> None:
    own, odd = tmp_path / "home", tmp_path / "odd"
    own.mkdir()
    assert refused(FailedPrecondition, checkpoint, own).reason == "UNSAFE_FORMAT"
    assert "--convert" in refused(FailedPrecondition, checkpoint, own).message
    refused(NotFound, tmp_path / "nowhere.safetensors", own)
    shutil.copytree(home / "models" / "sd1", odd)
    (odd / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04K\x01.")
    assert refused(FailedPrecondition, odd, own).reason == "UNSAFE_FORMAT"
    error = refused(FailedPrecondition, tmp_path, own)
    assert error.reason == "MODEL_LAYOUT" and "no model_index.json" in error.message
    torch.save({"a": torch.ones(3)}, tmp_path / "lora.pt")
    assert refused(FailedPrecondition, tmp_path / "lora.pt", own, convert=True).reason == "MODEL_LAYOUT"
    with pytest.raises(InvalidArgument):
        importer.put(checkpoint, own, "../x", convert=True)


@pytest.mark.slow
def test_an_import_copies_what_is_needed_and_nothing_else(home: Path, tmp_path: Path) -> None:
    own, source = tmp_path / "home", tmp_path / "as-downloaded"
    shutil.copytree(home / "models" / "sdxl", source)
    wanted = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    for name in BESIDE:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"x")
    half = source / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    shutil.copyfile(source / "unet" / "diffusion_pytorch_model.safetensors", half)
    importer.put(source, own, "", convert=False)
    copied = {p.relative_to(own / "models").as_posix() for p in (own / "models").rglob("*") if p.is_file()}
    assert copied == {f"as-downloaded/{name}" for name in wanted} | {"as-downloaded.toml"}
    (source / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    importer.put(source, own, "half", convert=False)
    assert (own / "models" / "half" / "unet" / half.name).is_file()


@pytest.mark.slow
def test_a_model_has_the_name_its_owner_sees(home: Path, tmp_path: Path, monkeypatch) -> None:
    own, folder = tmp_path / "home", tmp_path / "Dream Folder"
    (folder / "inner").mkdir(parents=True)
    blob = tmp_path / ("f" * 64)
    shutil.copyfile(home / "models" / "sdxl-file.safetensors", blob)
    (folder / "Linked.SAFETENSORS").symlink_to(blob)
    monkeypatch.chdir(folder)
    assert importer.put(Path("Linked.SAFETENSORS"), own, "", convert=False)["id"] == "linked"
    assert not (own / "models" / "linked.safetensors").is_symlink()
    shutil.copytree(home / "models" / "sd1", folder, dirs_exist_ok=True)
    for source in (".", "inner/..", "inner/../../Dream Folder/"):
        assert importer.put(Path(source), own, "", convert=False)["id"] == "dream-folder"
        shutil.rmtree(own / "models" / "dream-folder")


def test_the_settings_of_a_model_are_written_beside_it_and_the_owner_s_stay(home: Path, tmp_path: Path) -> None:
    own, source = tmp_path / "home", tmp_path / "Dream_Lightning_8steps.safetensors"
    shutil.copyfile(home / "models" / "sdxl-file.safetensors", source)
    said = importer.put(source, own, "dream", convert=False)
    model = BaseModels(own).get("dream")
    drawing = model.settings.drawing
    assert (drawing.steps, drawing.guidance_scale, drawing.timestep_spacing) == (8, 1.0, "trailing")
    assert "drawing.steps" in model.settings.in_file and "training.precision" in model.settings.in_file
    file = Path(str(said["settings_file"]))
    assert "# denoising steps" in file.read_text("utf-8")
    file.unlink()
    assert BaseModels(own).get("dream").settings.drawing.steps == 25, "without the file only the id speaks"
    (own / "models" / "other.toml").write_text("[drawing]\nclip_skip = 2\n")
    importer.put(source, own, "other", convert=False)
    assert (own / "models" / "other.toml").read_text() == "[drawing]\nclip_skip = 2\n"
    (own / "models" / "third.toml").write_text("[drawing]\nclip_skip = 'two'\n")
    with pytest.raises(FailedPrecondition) as caught:
        importer.put(source, own, "third", convert=False)
    assert caught.value.reason == "MODEL_SETTINGS" and "drawing.clip_skip" in caught.value.message
    assert BaseModels(own).ids() == ["dream", "other"]


def evil(folder: Path, canary: Path) -> list[Path]:
    """Pickles that try to leave a canary behind, in every container torch reads, and broken ones."""
    calls = {
        "system": Call(os.system, f"touch {canary}"),
        "open": Call(open, str(canary), "w"),
        "popen": Call(subprocess.Popen, ["touch", str(canary)]),
        "eval": Call(eval, f"open({str(canary)!r}, 'w')"),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "shutil": Call(shutil.copyfile, "/etc/hostname", str(canary)),
    }
    files = []
    for name, call in calls.items():
        for kind, save in (("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})):
            files.append(folder / f"{name}-{kind}.ckpt")
            torch.save({"state_dict": {"a": torch.ones(2), "b": call}}, files[-1], **save)
        files.append(folder / f"{name}-raw.ckpt")
        files[-1].write_bytes(pickle.dumps(call))
    whole = files[0].read_bytes()
    nested = folder / "nested.ckpt"
    with zipfile.ZipFile(nested, "w") as archive:
        archive.writestr("archive/inner.zip", whole)
        archive.writestr("archive/data.pkl", pickle.dumps(calls["system"]))
    for name, data in {
        "cut": whole[:200],
        "empty": b"",
        "text": b"hello",
        "bomb": b"\x80\x02" + b"(" * 100_000,
    }.items():
        (folder / f"{name}.ckpt").write_bytes(data)
        files.append(folder / f"{name}.ckpt")
    return [*files, nested]


@pytest.mark.slow
def test_no_pickle_leaves_a_canary(tmp_path: Path) -> None:
    own, canary = tmp_path / "home", tmp_path / "canary"
    own.mkdir()
    files = evil(tmp_path, canary)
    done = subprocess.run([sys.executable, "-c", MANY, *map(str, files)], capture_output=True, text=True, timeout=240)
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said) == len(files) > 20 and not canary.exists()
    assert {name: answer for name, answer in said.items() if not answer.startswith("refused: ")} == {}
    named = [answer for name, answer in said.items() if name.startswith("system")]
    assert len(named) == 3 and all("posix.system" in answer for answer in named)
    for file in (files[0], files[4]):
        error = refused(FailedPrecondition, file, own, convert=True)
        assert error.reason == "UNSAFE_FORMAT" and "could not be converted (" in error.message, file.name
    assert not canary.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="without privileges to give up there is less to show")
@pytest.mark.slow
def test_behind_the_door_nothing_works(tmp_path: Path) -> None:
    import socket

    victim, canary = tmp_path / "victim", tmp_path / "canary"
    victim.write_text("x")
    tmp_path.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as server:
        given = [sys.executable, "-c", DOOR, str(canary), str(victim), str(server.getsockname()[1])]
        done = subprocess.run(given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    tried, _, rest = done.stdout.strip().partition("] ")
    assert tried == "[" + ", ".join(["'no'"] * 10), done.stdout
    assert rest.split()[1] == "65534" and rest.split()[0] != "0"
    assert victim.read_text() == "x" and not canary.exists() and not Path(f"{canary}.d").exists()


@pytest.mark.slow
def test_a_child_that_hangs_or_writes_too_much_is_ended(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        importer._convert(checkpoint, tmp_path / "out.safetensors", seconds=0.0)
    assert caught.value.reason == "UNSAFE_FORMAT"


@pytest.mark.slow
def test_the_command_says_what_it_did(checkpoint: Path, tmp_path: Path, capsys) -> None:
    own = str(tmp_path / "home")
    assert commands.run(["models", "import", str(checkpoint), "--home", own]) == 4
    assert "--convert" in capsys.readouterr().err
    assert (
        commands.run(["models", "import", str(checkpoint), "--convert", "--name", "v3", "--json", "--home", own]) == 0
    )
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["id"], said["layout"], len(said["digest"])) == ("v3", "sd1", 64)
