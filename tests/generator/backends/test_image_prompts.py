"""Images as a prompt: what diffusers' own call draws with the same IP-Adapter, recorded, taken off without a trace."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from konomi.errors import FailedPrecondition, NotFound
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.loading import load_image_encoder, load_pipeline
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.generator import Generator
from konomi_generator.requests import Image, Likeness, Request
from konomi_generator.settings import GeneratorSettings
from tests.generator.backends.diffusers.test_adapters import lora
from tests.generator.backends.diffusers.test_drafts import rows_together
from tests.generator.conftest import SmallBatches

SIDE, WIDE, TOKENS = 64, 24, 4
FILES = {
    ("sd1", "plain"): "ip-adapter_sd15.safetensors",
    ("sd1", "plus"): "ip-adapter-plus_sd15.safetensors",
    ("sdxl", "plain"): "ip-adapter_sdxl_vit-h.safetensors",
}


def encoder() -> CLIPVisionModelWithProjection:
    """CLIP's vision tower at reduced width, random."""
    torch.manual_seed(7)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=WIDE,
    )
    return CLIPVisionModelWithProjection(config).eval()


def ip_adapter(unet: torch.nn.Module, kind: str) -> dict[str, torch.Tensor]:
    """A random IP-Adapter of a UNet with the names and shapes of the published files."""
    generator = torch.Generator().manual_seed(11)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    cross = unet.config.cross_attention_dim
    tensors = {}
    for number, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            layer = unet.get_submodule(name.removesuffix(".processor"))
            for part in ("k", "v"):
                tensors[f"ip_adapter.{number}.to_{part}_ip.weight"] = normal(layer.to_k.out_features, cross)
    head = "image_proj"
    if kind == "plain":
        tensors[f"{head}.proj.weight"], tensors[f"{head}.proj.bias"] = (
            normal(TOKENS * cross, WIDE),
            torch.zeros(TOKENS * cross),
        )
        tensors[f"{head}.norm.weight"], tensors[f"{head}.norm.bias"] = torch.ones(cross), torch.zeros(cross)
        return tensors
    inner = 64  # heads of 64 numbers, as published
    tensors[f"{head}.latents"] = normal(1, TOKENS, inner)
    for name, out, into in (("proj_in", inner, 32), ("proj_out", cross, inner)):
        tensors[f"{head}.{name}.weight"], tensors[f"{head}.{name}.bias"] = normal(out, into), torch.zeros(out)
    tensors[f"{head}.norm_out.weight"], tensors[f"{head}.norm_out.bias"] = torch.ones(cross), torch.zeros(cross)
    for depth in range(4):  # as published
        attention, forward = f"{head}.layers.{depth}.0", f"{head}.layers.{depth}.1"
        for norm in (f"{attention}.norm1", f"{attention}.norm2", f"{forward}.0"):
            tensors[f"{norm}.weight"], tensors[f"{norm}.bias"] = torch.ones(inner), torch.zeros(inner)
        tensors[f"{attention}.to_q.weight"] = normal(inner, inner)
        tensors[f"{attention}.to_kv.weight"] = normal(2 * inner, inner)
        tensors[f"{attention}.to_out.weight"] = normal(inner, inner)
        tensors[f"{forward}.1.weight"], tensors[f"{forward}.3.weight"] = (
            normal(4 * inner, inner),
            normal(inner, 4 * inner),
        )
    return tensors


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (40 + 8 * n, 48, 3), dtype=np.uint8) for n in range(count)]


@pytest.fixture(scope="module")
def looking(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with sd1 and sdxl and a random IP-Adapter beside each, plain and plus."""
    own = tmp_path_factory.mktemp("looking")
    beside = own / "models" / "ip_adapter"
    beside.mkdir(parents=True)
    for id in ("sd1", "sd2", "sdxl"):
        (own / "models" / id).symlink_to(home / "models" / id)
    encoder().save_pretrained(beside / "image_encoder")
    for (id, kind), name in FILES.items():
        unet = load_pipeline(BaseModels(own).get(id), own, torch.device("cpu"), torch.float32).unet
        save_file(ip_adapter(unet, kind), beside / name)
    return own


@pytest.fixture(scope="module")
def drawer(looking: Path) -> Iterator[Generator]:
    settings = GeneratorSettings(home=looking, threads=1, single_file_configs=looking, device="cpu")
    decoder, store = Decoder(), ArtifactStore(StoreSettings(home=looking))
    generator = Generator(BaseModels(looking), store, SmallBatches(settings), decoder, writers=1, max_side=SIDE)
    yield generator
    generator.close()
    decoder.close()


@pytest.fixture
def named(looking: Path) -> Iterator[Path]:
    """Where the settings of sd1 may name files for one test."""
    file = looking / "models" / "sd1.toml"
    yield file
    file.unlink(missing_ok=True)


def stored(drawer: Generator, count: int) -> list[str]:
    """Digests of pictures in the store."""
    digests = []
    for pixels in pictures(count):
        buffer = io.BytesIO()
        Picture.fromarray(pixels, "RGB").save(buffer, "PNG")
        digests.append(drawer._store.put(buffer.getvalue(), "image/png").digest)
    return digests


def draw(drawer: Generator, likeness: Likeness | None = None, **fields: object) -> list[tuple[np.ndarray, dict, tuple]]:
    """Pixels, record and parents of every image."""
    usual = {"images": [Image("a cat", 5)], "base_model": "sd1", "width": SIDE, "height": SIDE, "steps": 3}
    request = Request(**(usual | fields), likeness=likeness)
    drawn = []
    for finished in sorted(drawer.generate(request, lambda: False), key=lambda image: image.index):
        assert finished.error is None and finished.artifact is not None
        picture = Picture.open(io.BytesIO(drawer._store.get(finished.artifact.digest)))
        drawn.append((np.asarray(picture), json.loads(picture.text["konomi"]), finished.parents))
    return drawn


def by_diffusers(looking: Path, id: str, kind: str, images: int, guidance: float, rows: int) -> np.ndarray:
    """What diffusers' own call draws."""
    pipe = load_pipeline(BaseModels(looking).get(id), looking, torch.device("cpu"), torch.float32)
    beside = looking / "models" / "ip_adapter"
    image_encoder, processor = load_image_encoder(beside / "image_encoder", torch.float32)
    pipe.register_modules(image_encoder=image_encoder, feature_extractor=processor)
    pipe.load_ip_adapter(str(beside), subfolder="", weight_name=FILES[id, kind], image_encoder_folder=None)
    pipe.set_ip_adapter_scale(0.7)
    pipe.set_progress_bar_config(disable=True)
    seen = [[Picture.fromarray(pixels, "RGB") for pixels in pictures(images)]]
    noise = [torch.Generator().manual_seed(5) for _ in range(rows)]
    usual = {"num_inference_steps": 3, "width": SIDE, "height": SIDE, "output_type": "np"}
    answer = pipe(["a cat"] * rows, ip_adapter_image=seen, guidance_scale=guidance, generator=noise, **usual)
    return (answer.images[0] * 255).round().astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "kind", "count", "guidance"), [("sd1", "plain", 3, 5.0), ("sd1", "plus", 2, 1.0), ("sdxl", "plain", 1, 5.0)]
)
def test_pictures_are_what_diffusers_draws(id, kind, count, guidance, drawer, looking) -> None:
    file = looking / "models" / f"{id}.toml"
    file.write_text(f'[image_prompt]\nadapter = "{FILES[id, kind]}"\n')
    try:
        digests = stored(drawer, count)
        syntax = {"guidance_scale": guidance, "prompt_syntax": "plain"}
        ((pixels, record, parents),) = draw(drawer, Likeness(digests, 0.7), base_model=id, **syntax)
    finally:
        file.unlink()
    rows = rows_together(drawer, id)  # matrix libraries round rows of one and of many apart
    apart = pixels.astype(int) - by_diffusers(looking, id, kind, count, guidance, rows)
    assert np.abs(apart).max() <= 1 and (apart != 0).mean() < 1e-3  # some processors round a last bit of them apart
    assert record["image_prompt"]["digests"] == digests and record["image_prompt"]["scale"] == 0.7
    assert {len(record["image_prompt"][name]) for name in ("adapter", "encoder")} == {64}
    assert list(parents) == digests and record["parents"] == digests


@pytest.mark.slow
def test_words_alone_are_what_they_were_and_batches_of_images_are_what_each_is(drawer) -> None:
    digests = stored(drawer, 2)
    before = draw(drawer)[0][0]
    pair = draw(drawer, Likeness(digests), images=[Image("a cat", 5), Image("a dog", 6)])
    alone = draw(drawer, Likeness(digests), images=[Image("a dog", 6)])
    assert np.array_equal(draw(drawer)[0][0], before)
    assert not np.array_equal(pair[0][0], before)
    assert np.array_equal(pair[1][0], alone[0][0])
    assert pair[0][1]["image_prompt"]["scale"] == 0.6  # the model's own
    assert np.array_equal(draw(drawer, Likeness(digests, 0.0))[0][0], before)


@pytest.mark.slow
def test_units_guided_by_the_base_look_at_images_too(drawer) -> None:
    pipe = load_pipeline(drawer._models.get("sd1"), Path("nowhere"), torch.device("cpu"), torch.float32)
    unit = drawer._store.put(lora(1, unet=pipe.unet), "application/octet-stream").digest
    digests, guided = stored(drawer, 2), {"adapters": [(unit, 0.8)], "guide_from_base": True}
    plain = draw(drawer, **guided)[0][0]
    seen = draw(drawer, Likeness(digests), **guided)[0][0]
    assert not np.array_equal(plain, seen)
    assert np.array_equal(draw(drawer, **guided)[0][0], plain)
    assert np.array_equal(draw(drawer, Likeness(digests), **guided)[0][0], seen)


@pytest.mark.slow
def test_another_models_adapter_and_another_encoder_are_refused_and_leave_no_trace(drawer, looking, named) -> None:
    beside, digests, before = looking / "models" / "ip_adapter", stored(drawer, 1), draw(drawer)[0][0]
    wide = load_file(beside / FILES["sd1", "plain"])
    wide["image_proj.proj.weight"] = torch.zeros(wide["image_proj.proj.weight"].shape[0], WIDE + 8)
    save_file(wide, beside / "wide.safetensors")
    save_file({"image_proj.proj.weight": torch.zeros(4, 4)}, beside / "half.safetensors")
    face = {"image_proj.norm.weight": torch.zeros(4), "ip_adapter.0.to_q_lora.down.weight": torch.zeros(4, 4)}
    save_file(face, beside / "face.safetensors")
    cases = {
        FILES["sdxl", "plain"]: "does not fit this base model",
        "wide.safetensors": f"takes {WIDE + 8} numbers of an image and the encoder image_encoder gives {WIDE}|not fit",
        "half.safetensors": "lacks half",
        "face.safetensors": "tensors that konomi cannot apply",
    }
    for name, words in cases.items():
        named.write_text(f'[image_prompt]\nadapter = "{name}"\n')
        with pytest.raises(FailedPrecondition, match=words) as caught:
            draw(drawer, Likeness(digests))
        assert caught.value.reason == "IMAGE_PROMPT_ADAPTER" and name in caught.value.message
        assert np.array_equal(draw(drawer)[0][0], before)


def test_a_home_without_the_files_says_what_to_put_where(drawer, looking, named) -> None:
    digests = stored(drawer, 1)
    with pytest.raises(FailedPrecondition, match="models/ip_adapter") as caught:
        draw(drawer, Likeness(digests), base_model="sd2")
    assert caught.value.reason == "IMAGE_PROMPT_ADAPTER_MISSING" and "fetch" not in caught.value.message
    beside = looking / "models" / "ip_adapter"
    (beside / "ip-adapter-light_sd15.bin").write_bytes(b"\x80\x02.")
    for adapter in ("ip-adapter-light_sd15.safetensors", "ip-adapter-light_sd15.bin"):
        named.write_text(f'[image_prompt]\nadapter = "{adapter}"\n')
        with pytest.raises(FailedPrecondition, match=r"ip-adapter-light_sd15\.bin") as caught:
            draw(drawer, Likeness(digests))
        assert caught.value.reason == "UNSAFE_FORMAT"
    named.write_text('[image_prompt]\nimage_encoder = "other"\n')
    with pytest.raises(FailedPrecondition, match=r"fetch ip-adapter-sd15.*other/config\.json"):
        draw(drawer, Likeness(digests))
    (beside / "other").mkdir(exist_ok=True)
    shutil.copy(beside / "ip-adapter-light_sd15.bin", beside / "other" / "pytorch_model.bin")
    with pytest.raises(FailedPrecondition, match=r"pytorch_model\.bin") as caught:
        draw(drawer, Likeness(digests))
    assert caught.value.reason == "UNSAFE_FORMAT"


def test_an_image_that_is_not_there_is_named_and_words_go_on(drawer) -> None:
    before = draw(drawer)[0][0]
    with pytest.raises(NotFound, match="f" * 12):
        draw(drawer, Likeness(["f" * 64]))
    assert np.array_equal(draw(drawer)[0][0], before)
