"""`konomi models fetch` against a hub on loopback: whole, broken and resumed, wrong, hostile."""

import hashlib
import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from konomi.cli import commands
from konomi.cli.models import fetch
from konomi.errors import DataLoss, FailedPrecondition, KonomiError, NotFound, Unavailable
from konomi.home import Home
from konomi.host.hub import FetchSettings
from konomi.host.hub_models import DOWNLOADS, Download, Remote
from tests.client.cli.hub import Hub

REVISION = "0123456789abcdef0123456789abcdef01234567"


def weights(size: int = 400_000) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(n * 7 % 251 for n in range(size))


DATA = weights()


def model(sha256: str = "", path: str = "model.safetensors", target: str = "toy.safetensors") -> Download:
    file = Remote(path, target, sha256, len(DATA) if sha256 else 0)
    return Download("toy", "a toy", "some/body", REVISION, "MIT", (file,))


def bring(hub: Hub, home: Path, wanted: Download, tries: int = 1) -> dict:
    settings = FetchSettings(home=home, hub=hub.address, fetch_tries=tries)
    return fetch.bring(wanted, Home(home), settings, quiet=True)


def failed(kind: type[KonomiError], hub: Hub, home: Path, wanted: Download, tries: int = 1) -> KonomiError:
    with pytest.raises(kind) as caught:
        bring(hub, home, wanted, tries)
    assert not (home / "models" / "toy.safetensors").exists()
    return caught.value


@pytest.mark.slow
@pytest.mark.parametrize("sha256", ["", hashlib.sha256(DATA).hexdigest()])
def test_a_file_comes_whole_and_is_not_asked_for_again(sha256: str, tmp_path: Path) -> None:
    with Hub({"model.safetensors": DATA}).running() as hub:
        result = bring(hub, tmp_path, model(sha256))
        asked = len(hub.asked)
        again = bring(hub, tmp_path, model(sha256))
    assert (tmp_path / "models" / "toy.safetensors").read_bytes() == DATA
    (file,) = result["files"]
    assert file["digest"] == hashlib.sha256(DATA).hexdigest() and file["size_bytes"] == len(DATA)
    assert (file["pinned"], file["fetched"]) == (bool(sha256), True)
    assert not again["files"][0]["fetched"] and len(hub.asked) == asked
    assert all(f"/resolve/{REVISION}/" in path for _, path, _ in hub.asked if "resolve" in path)


@pytest.mark.slow
def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path: Path) -> None:
    with Hub({"model.safetensors": DATA}, break_after=[150_000, 100_000]).running() as hub:
        bring(hub, tmp_path, model(), tries=3)
        ranges = [range_ for method, path, range_ in hub.asked if method == "GET" and "blobs" in path]
    assert ranges == ["", "bytes=150000-", "bytes=250000-"]
    assert (tmp_path / "models" / "toy.safetensors").read_bytes() == DATA


def test_the_next_command_goes_on_after_one_that_gave_up(tmp_path: Path) -> None:
    with Hub({"model.safetensors": DATA}, break_after=[150_000]).running() as hub:
        error = failed(Unavailable, hub, tmp_path, model())
        assert "byte 150000" in error.message
        bring(hub, tmp_path, model())
        assert hub.asked[-1][2] == "bytes=150000-"
    assert (tmp_path / "models" / "toy.safetensors").read_bytes() == DATA


@pytest.mark.slow
def test_a_hub_without_ranges_starts_again(tmp_path: Path) -> None:
    with Hub({"model.safetensors": DATA}, break_after=[150_000], ranges=False).running() as hub:
        bring(hub, tmp_path, model(), tries=2)
    assert (tmp_path / "models" / "toy.safetensors").read_bytes() == DATA


@pytest.mark.slow
def test_bytes_that_are_not_those_of_the_digest_are_thrown_away(tmp_path: Path) -> None:
    spoiled = DATA[:-1] + b"\0"
    with Hub({"model.safetensors": spoiled}, lie=hashlib.sha256(DATA).hexdigest()).running() as hub:
        assert failed(DataLoss, hub, tmp_path, model()).reason == "DIGEST"
        assert not list((tmp_path / "models" / ".fetch").glob("*.part"))
    with Hub({"model.safetensors": spoiled}).running() as hub:
        failed(DataLoss, hub, tmp_path, model(hashlib.sha256(DATA).hexdigest()))
        assert not [path for _, path, _ in hub.asked if "blobs" in path], "a wrong offer is not even fetched"


@pytest.mark.slow
def test_another_revision_a_missing_file_and_a_changed_word_are_refused(tmp_path: Path) -> None:
    with Hub({"model.safetensors": DATA}, commit="f" * 40).running() as hub:
        failed(DataLoss, hub, tmp_path, model())
    with Hub({}).running() as hub:
        failed(NotFound, hub, tmp_path, model())
    with Hub({"model.safetensors": DATA}).running() as hub:
        bring(hub, tmp_path, model())
        (tmp_path / "models" / "toy.safetensors").unlink()
        hub.files["model.safetensors"] = weights(1000)
        assert "at first" in failed(DataLoss, hub, tmp_path, model()).message


@pytest.mark.slow
@pytest.mark.parametrize(
    "data", [pickle.dumps({"a": 1}), b"PK\x03\x04" + bytes(99), b"", struct.pack("<Q", 9) + b"[1,2,3,4]"]
)
def test_a_pickle_offered_as_safetensors_is_thrown_away(data: bytes, tmp_path: Path) -> None:
    with Hub({"model.safetensors": data}).running() as hub:
        error = failed((FailedPrecondition, Unavailable), hub, tmp_path, model())  # type: ignore[arg-type]
    assert error.reason == "UNSAFE_FORMAT" or not data
    assert not list((tmp_path / "models" / ".fetch").glob("*.part"))


@pytest.mark.slow
def test_a_small_file_is_held_against_git_s_name_of_it(tmp_path: Path) -> None:
    wanted = model(path="config.json", target="open_clip/x/config.json")
    with Hub({"config.json": b"{}"}, large=False).running() as hub:
        assert bring(hub, tmp_path, wanted)["files"][0]["digest"].startswith("git:")
    assert (tmp_path / "models" / "open_clip" / "x" / "config.json").read_bytes() == b"{}"
    with Hub({"config.json": b"{}"}, large=False, lie="0" * 40).running() as hub, pytest.raises(DataLoss):
        bring(hub, tmp_path / "other", wanted)


@pytest.mark.slow
@pytest.mark.parametrize("hub", ["http://example.com", "http://127.0.0.1.example.com", "http://169.254.169.254"])
def test_plain_http_to_elsewhere_is_refused_also_as_a_redirect(hub: str, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        fetch.bring(model(), Home(tmp_path), FetchSettings(home=tmp_path, hub=hub), quiet=True)
    assert caught.value.reason == "INSECURE"
    with Hub({"model.safetensors": DATA}, location=f"{hub}/x").running() as own:
        assert failed(FailedPrecondition, own, tmp_path, model()).reason == "INSECURE"


def test_the_command_shows_digest_and_size_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    known = model(hashlib.sha256(DATA).hexdigest())
    monkeypatch.setattr(fetch, "DOWNLOADS", (known,))
    with Hub({"model.safetensors": DATA}).running() as hub:
        monkeypatch.setenv("KONOMI_HUB", hub.address)
        assert commands.run(["models", "fetch", "toy", "--home", str(tmp_path)]) == 0
        assert commands.run(["models", "fetch", "toi", "--home", str(tmp_path)]) == 2
        assert commands.run(["models", "fetch", "--home", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert REVISION in said.err and known.files[0].sha256 in said.err and str(len(DATA)) in said.err
    assert "toy" in said.out and "known are toy" in said.err


@pytest.mark.slow
def test_without_a_revision_of_its_own_the_hub_names_one_and_that_one_is_kept(tmp_path: Path) -> None:
    wanted = replace(model(), revision="")
    with Hub({"model.safetensors": DATA}, commit=REVISION).running() as hub:
        assert bring(hub, tmp_path, wanted)["revision"] == REVISION
        asked = len(hub.asked)
        assert bring(hub, tmp_path, wanted)["revision"] == REVISION and len(hub.asked) == asked
        (tmp_path / "models" / "toy.safetensors").unlink()
        hub.commit = "f" * 40
        with pytest.raises(DataLoss, match=REVISION):  # what was fetched once is asked for again, not the newest
            bring(hub, tmp_path, wanted)
    with Hub({"model.safetensors": DATA}, commit="no commit").running() as hub:
        error = failed(Unavailable, hub, tmp_path / "other", wanted)
    assert error.reason == "HUB" and "some/body" in error.message


def test_the_list_holds_only_pinned_safetensors_and_their_small_companions() -> None:
    assert len({model.name for model in DOWNLOADS}) == len(DOWNLOADS) >= 6
    for wanted in DOWNLOADS:
        assert len(wanted.revision) in (0, 40) and wanted.licence
        assert wanted.size > 0
        for file in wanted.files:
            assert file.path.endswith((".safetensors", ".json"))
            assert not file.sha256 or (len(file.sha256) == 64 and file.size > 0)
            assert ".." not in file.target and not file.target.startswith("/")
            assert wanted.revision or file.path.endswith(".safetensors")


def test_embedders_of_today_lie_where_the_rater_looks_for_them_and_the_next_step_names_them() -> None:
    steps = {download.name: fetch.next_step(download) for download in DOWNLOADS}
    assert steps["siglip2-b16"] == "konomi rater embedder open_clip:ViT-B-16-SigLIP2/webli"
    assert steps["pe-core-l14"] == "konomi rater embedder open_clip:PE-Core-L-14-336/meta"
    assert steps["mobileclip2-s0"] == "konomi rater embedder open_clip:MobileCLIP2-S0/dfndr2b"
