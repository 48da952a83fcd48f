"""`konomi models fetch` of whole diffusers folders against a hub on loopback: by their index files, or refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from konomi.cli import commands
from konomi.cli.models import fetch
from konomi.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound, Unavailable
from konomi.home import Home
from konomi.host.hub import FetchSettings
from konomi.host.hub_models import APACHE, DOWNLOADS, FLOW_BASES, Download
from tests.client.cli.hub import Hub
from tests.client.cli.test_fetch import REVISION, weights

TOY = Download("toy-flow", "a toy", "some/body", REVISION, APACHE, (), folder="toy-flow")
SHARDS = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
INDEX = {
    "_class_name": "ZImagePipeline",
    "transformer": ["diffusers", "ZImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "Qwen3Model"],
    "tokenizer": ["transformers", "Qwen2Tokenizer"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "safety_checker": ["diffusers", "Other"],
    "text_encoder_2": [None, None],
}


def folder(**index: object) -> dict[str, bytes]:
    """What a hub holds of a folder whose transformer is in two files; no part of what is never read is missed."""
    sharded = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[0]}}
    documents = {
        "model_index.json": INDEX | index,
        "transformer/config.json": {},
        "transformer/diffusion_pytorch_model.safetensors.index.json": sharded,
        "vae/config.json": {},
        "text_encoder/config.json": {},
        "tokenizer/tokenizer.json": {},
        "tokenizer/vocab.json": {},
        "scheduler/scheduler_config.json": {},
    }
    files = {path: json.dumps(document).encode() for path, document in documents.items()}
    tensors = [f"transformer/{name}" for name in SHARDS]
    tensors += ["vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"]
    return files | {path: weights(1000 + place) for place, path in enumerate(tensors)}


def bring(hub: Hub, home: Path, wanted: Download = TOY) -> fetch.FetchedModel:
    return fetch.bring(wanted, Home(home), FetchSettings(home=home, hub=hub.address, fetch_tries=1), quiet=True)


def there(home: Path) -> dict[str, bytes]:
    root = home / "models" / "toy-flow"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_folder_comes_whole_by_what_its_index_files_name_and_is_not_asked_for_again(tmp_path: Path) -> None:
    files = folder()
    extra = {"README.md": b"#", "tokenizer/chat_template.jinja": b"{{", "model.bin": b"\x80", "safety_checker/a": b"1"}
    with Hub(files | extra).running() as hub:
        result = bring(hub, tmp_path)
        assert there(tmp_path) == files
        asked = len(hub.asked)
        again = bring(hub, tmp_path)
        assert len(hub.asked) == asked
    assert {
        Path(row["file"]).relative_to(tmp_path / "models" / "toy-flow").as_posix() for row in result["files"]
    } == set(files)
    assert all(row["fetched"] for row in result["files"]) and not any(row["fetched"] for row in again["files"])
    assert sorted(row["digest"] for row in again["files"]) == sorted(row["digest"] for row in result["files"])


def test_it_has_its_name_only_once_it_is_whole_and_goes_on_where_it_broke(tmp_path: Path) -> None:
    files = folder()
    with Hub(files).running() as hub:
        hub.files = {path: data for path, data in files.items() if path != "scheduler/scheduler_config.json"}
        with pytest.raises(NotFound):
            bring(hub, tmp_path)
        assert not (tmp_path / "models" / "toy-flow").exists()
        hub.files, before = files, len(hub.asked)
        bring(hub, tmp_path)
        assert there(tmp_path) == files
        assert not [path for _, path, _ in hub.asked[before:] if SHARDS[0] in path], "what is there stays"


def test_without_a_revision_the_first_one_is_kept(tmp_path: Path) -> None:
    with Hub(folder(), commit=REVISION).running() as hub:
        assert bring(hub, tmp_path, replace(TOY, revision=""))["revision"] == REVISION
        assert bring(hub, tmp_path, replace(TOY, revision=""))["revision"] == REVISION


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("transformer/diffusion_pytorch_model.safetensors.index.json", {"weight_map": {"a": "../../x.safetensors"}}),
        ("transformer/diffusion_pytorch_model.safetensors.index.json", {"weight_map": {"a": "x.bin"}}),
        ("transformer/diffusion_pytorch_model.safetensors.index.json", {"weight_map": {}}),
        ("model_index.json", INDEX | {"other": ["my_code", "Model"]}),
        ("model_index.json", INDEX | {"../up": ["diffusers", "AutoencoderKL"]}),
        ("model_index.json", []),
    ],
)
def test_an_index_that_points_elsewhere_is_refused_and_nothing_more_is_asked(
    path: str, document: object, tmp_path: Path
) -> None:
    with Hub(folder() | {path: json.dumps(document).encode()}).running() as hub:
        with pytest.raises(FailedPrecondition) as caught:
            bring(hub, tmp_path)
        assert not [asked for _, asked, _ in hub.asked if "/up/" in asked or "/x." in asked]
    assert caught.value.reason == "UNSAFE_FORMAT"
    assert [entry.name for entry in (tmp_path / "models").iterdir()] == [".fetch"]


@pytest.mark.slow
def test_wrong_bytes_and_a_model_of_the_owner_s_own_are_refused(tmp_path: Path) -> None:
    with Hub(folder(), lie="0" * 64).running() as hub, pytest.raises((DataLoss, Unavailable)):
        bring(hub, tmp_path)
    assert not (tmp_path / "models" / "toy-flow").exists()
    (tmp_path / "own" / "models" / "toy-flow").mkdir(parents=True)
    with Hub(folder()).running() as hub, pytest.raises(AlreadyExists):
        bring(hub, tmp_path / "own")


def test_what_a_licence_forbids_is_said_before_anything_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetch, "DOWNLOADS", (replace(TOY, bound="For non-commercial use alone."),))
    with Hub({}).running() as hub:
        monkeypatch.setenv("KONOMI_HUB", hub.address)
        assert commands.run(["models", "fetch", "toy-flow", "--home", str(tmp_path)]) != 0
    said = capsys.readouterr().err
    assert (
        said.index("licence Apache-2.0") < said.index("For non-commercial use alone.") < said.index("model_index.json")
    )


def test_the_flow_bases_of_the_list_are_apache_and_keep_their_names_as_ids() -> None:
    assert set(FLOW_BASES) <= set(DOWNLOADS)
    for wanted in FLOW_BASES:
        assert wanted.licence == APACHE and not wanted.bound and not wanted.files
        assert fetch.next_step(wanted) == f"konomi night plan converge --base {wanted.folder} --trial"
