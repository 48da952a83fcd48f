"""Embedders from files: real open_clip layouts load, hostile files are refused with a reason, nothing is fetched."""

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import sklearn.datasets
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_rater.embedding import packaged
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.names import LITE, parse, space_of
from konomi_rater.embedding.registry import Embedders
from konomi_rater.embedding.timm import like_timm
from tests.rater.models_on_disk import PREPROCESS, SECOND_CONFIG, weights, write_second_model

CPU = Placement("cpu", 1, 16)
PICTURES = [np.random.default_rng(i).integers(0, 255, (40, 50, 3), dtype=np.uint8) for i in range(3)]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any look-up or connection fails the test."""

    def refuse(*arguments, **options):
        raise AssertionError(f"an embedder asked the network: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def models(tmp_path) -> Path:
    return tmp_path / "models"


def place(models: Path, config: dict, tensors: dict, folder: str = "open_clip/mine", name: str = "tiny") -> Path:
    path = models / folder / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    (path.parent / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}))
    return path


def refusal(models: Path, name: str = "open_clip:mine/tiny") -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as caught:
        Embedders(models, CPU).open(name)
    return caught.value


def test_a_model_on_disk_sees_and_reads_as_open_clip_itself_does(models):
    name = write_second_model(models)
    opened = Embedders(models, CPU).open(name)
    model = open_clip.CLIP(**json.loads(json.dumps(SECOND_CONFIG)))
    model.load_state_dict(load_file(models / "open_clip" / "second" / "tiny.safetensors"))
    prepare = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=32, **PREPROCESS), is_train=False
    )
    with torch.inference_mode():
        seen = model.eval().encode_image(torch.stack([prepare(Image.fromarray(p)) for p in PICTURES]), normalize=True)
        read = model.encode_text(open_clip.SimpleTokenizer(context_length=16)(["a red hat"]), normalize=True)
    assert np.allclose(opened.embed(PICTURES, keep=True), seen, atol=1e-5)
    assert opened.reads_text and np.allclose(opened.embed_texts(["a red hat"]), read, atol=1e-5)


def test_a_folder_as_it_is_published_and_a_known_name_load_too(models):
    write_second_model(models)
    made = place(models, SECOND_CONFIG, weights(SECOND_CONFIG), "open_clip/mine/tag", "open_clip_model")
    assert Embedders(models, CPU).open("open_clip:mine/tag").embed(PICTURES, keep=False).shape == (3, 24)
    small = "ViT-S-32-alt"
    config = open_clip.get_model_config(small)
    save_file(weights(config), made.parents[2] / "known.safetensors")
    (models / "open_clip" / small).mkdir()
    (models / "open_clip" / "known.safetensors").rename(models / "open_clip" / small / "mine.safetensors")
    names = Embedders(models, CPU).at_hand()
    assert names[0] == f"open_clip:{small}/mine"
    assert {"open_clip:mine/tag", "open_clip:second/tiny", LITE} == set(names[1:])
    assert Embedders(models, CPU).open(names[0]).embed(PICTURES[:1], keep=False).shape == (1, config["embed_dim"])


def test_a_pickle_by_another_name_is_refused(models, tmp_path):
    path = place(models, SECOND_CONFIG, weights(SECOND_CONFIG))
    torch.save({"x": torch.zeros(3)}, tmp_path / "x.pt")
    path.write_bytes((tmp_path / "x.pt").read_bytes())
    found = refusal(models)
    assert found.reason == "UNSAFE_FORMAT" and "pickle" in found.message


def test_a_bloated_header_is_refused_before_it_is_read(models):
    path = place(models, SECOND_CONFIG, weights(SECOND_CONFIG))
    path.write_bytes(struct.pack("<Q", 9_000_000) + b"{" + b" " * 9_000_010)
    assert refusal(models).reason == "UNSAFE_FORMAT"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bool, torch.uint8])
def test_values_no_tower_is_made_of_are_refused(models, dtype):
    tensors = weights(SECOND_CONFIG)
    tensors["visual.proj"] = tensors["visual.proj"].to(dtype)
    place(models, SECOND_CONFIG, tensors)
    found = refusal(models)
    assert found.reason == "EMBEDDER_DTYPE" and "visual.proj" in found.message


def test_half_precision_is_fine(models):
    place(models, SECOND_CONFIG, {name: value.half() for name, value in weights(SECOND_CONFIG).items()})
    assert Embedders(models, CPU).open("open_clip:mine/tiny").dimensions == 24


def test_a_configuration_larger_than_its_weights_costs_nothing(models):
    vast = SECOND_CONFIG | {
        "vision_cfg": SECOND_CONFIG["vision_cfg"] | {"layers": 400, "width": 8192, "head_width": 64}
    }
    place(models, vast, weights(SECOND_CONFIG))
    assert refusal(models).reason == "EMBEDDER_UNSUPPORTED"


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("text_cfg", "hf_model_name", "someone/encoder"),
        ("vision_cfg", "timm_model_name", "hf-hub:someone/tower"),
    ],
)
def test_what_would_be_fetched_is_refused(models, part, key, value):
    place(models, SECOND_CONFIG | {part: SECOND_CONFIG[part] | {key: value}}, weights(SECOND_CONFIG))
    assert refusal(models).reason == "EMBEDDER_UNSUPPORTED"


def test_a_text_tower_without_its_tokenizer_leaves_the_image_tower(models):
    config = SECOND_CONFIG | {"text_cfg": SECOND_CONFIG["text_cfg"] | {"hf_tokenizer_name": "someone/words"}}
    place(models, config, weights(SECOND_CONFIG))
    opened = Embedders(models, CPU).open("open_clip:mine/tiny")
    assert not opened.reads_text
    with pytest.raises(InvalidArgument) as caught:
        opened.embed_texts(["a hat"])
    assert caught.value.reason == "NO_TEXT_TOWER"


def test_weights_of_another_shape_and_missing_files_say_so(models):
    place(models, SECOND_CONFIG | {"embed_dim": 20}, weights(SECOND_CONFIG))
    assert refusal(models).reason == "EMBEDDER_UNREADABLE"
    assert refusal(models, "open_clip:ViT-B-32/laion2b_s34b_b79k").reason == "EMBEDDER_MISSING"


@pytest.fixture(scope="module")
def lite(tmp_path_factory) -> Path:
    """A home's models with the packaged weights converted."""
    folder = tmp_path_factory.mktemp("lite")
    packaged.weights(folder)
    return folder


def photographs() -> dict[str, np.ndarray]:
    folder = Path(sklearn.datasets.__file__).parent / "images"
    return {name: np.asarray(Image.open(folder / f"{name}.jpg").convert("RGB")) for name in ("flower", "china")}


@pytest.mark.slow
def test_the_packaged_model_names_two_photographs(lite):
    """ImageNet's classes: 985 daisy, 698 palace, 442 bell cote, 663 monastery."""
    pictures = photographs()
    model = timm.create_model(packaged.MODEL, pretrained=False).eval()
    model.load_state_dict(load_file(packaged.weights(lite)))
    prepare = like_timm(timm.data.resolve_model_data_config(model))
    with torch.inference_mode():
        logits = model(prepare(list(pictures.values())))
    flower, china = logits.topk(5).indices.tolist()
    assert flower[0] == 985
    assert china[0] == 698 and {442, 663} <= set(china)


@pytest.mark.slow
def test_the_packaged_embedder_joins_early_layers_and_has_a_space_of_its_own(lite):
    opened = Embedders(lite, CPU).open(LITE)
    pictures = list(photographs().values())
    blurred = [np.asarray(Image.fromarray(p).resize((40, 30)).resize((p.shape[1], p.shape[0]))) for p in pictures]
    rows = opened.embed([*pictures, *blurred], keep=True)
    assert rows.shape == (4, 1280 + 2 * (16 + 24 + 40)) and not opened.reads_text
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    last, early = rows[:, :1280], rows[:, 1280:]
    assert np.allclose(np.linalg.norm(early, axis=1) / np.linalg.norm(last, axis=1), 0.75, atol=1e-4)
    assert rows[0] @ rows[2] > rows[0] @ rows[1]
    assert space_of(LITE) != LITE and "224-bicubic" in space_of(LITE) and space_of("starter") == "starter"


def test_after_the_conversion_only_safetensors_is_read(lite, monkeypatch):
    monkeypatch.setattr(packaged, "convert", lambda data: pytest.fail("converted twice"))
    monkeypatch.setattr(packaged, "source", lambda: None)
    assert packaged.weights(lite).suffix == ".safetensors"


@pytest.mark.slow
def test_a_damaged_conversion_is_made_again(lite, tmp_path):
    models = tmp_path / "models"
    path = packaged.weights(models)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert not packaged.installed(models)
    assert packaged.weights(models).read_bytes() == packaged.weights(lite).read_bytes()


def test_a_file_with_another_sha256_is_never_opened(tmp_path, monkeypatch):
    other = tmp_path / "other.pth"
    torch.save({"x": torch.zeros(2)}, other)
    monkeypatch.setattr(packaged, "source", lambda: other)
    monkeypatch.setattr(subprocess, "run", lambda *a, **o: pytest.fail("a child was started"))
    with pytest.raises(FailedPrecondition) as caught:
        packaged.weights(tmp_path / "models")
    assert caught.value.reason == "UNSAFE_FORMAT" and packaged.SHA256 in caught.value.message


def test_without_the_package_the_pip_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "source", lambda: None)
    with pytest.raises(FailedPrecondition) as caught:
        Embedders(tmp_path, CPU).check(LITE)
    assert caught.value.reason == "EMBEDDER_MISSING" and "konomi[offline]" in caught.value.message
    assert Embedders(tmp_path, CPU).at_hand() == []


@pytest.mark.slow
def test_the_converter_runs_no_code_and_can_touch_nothing(tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return Path.touch, (canary,)

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    done = subprocess.run(
        [sys.executable, "-I", str(packaged.CHILD)], input=(tmp_path / "evil.pth").read_bytes(), capture_output=True
    )
    assert done.returncode != 0 and not done.stdout and not canary.exists()


@pytest.mark.parametrize("name", ["", "clip", "timm:", "timm:resnet18", "open_clip:a/b/c", "open_clip:a/w.pt"])
def test_names_of_no_known_form(name):
    with pytest.raises(InvalidArgument):
        parse(name)


ORDER = """
import sys
from pathlib import Path
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.registry import Embedders

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("scipy.stats" in sys.modules and "sklearn.cluster" in sys.modules)

embedders = Embedders(Path("none"), Placement("cpu", 1, 0))
assert "torch" not in sys.modules
sys.meta_path.insert(0, Watch())
embedders.import_libraries()
"""


@pytest.mark.slow
def test_what_fails_on_half_of_torch_is_imported_before_it():
    done = subprocess.run([sys.executable, "-c", ORDER], capture_output=True, text=True, timeout=250, check=True)
    assert set(done.stdout.split()) == {"True"}
