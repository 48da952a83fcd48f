"""Models that know words for other tools: a LoRA that equals the change of weights, and one embedding per concept.

The zip holds `lora.safetensors` and `NAME.safetensors` for the token <NAME>, with the one tensor `emb_params` (1, D)
that A1111, Forge, ComfyUI and diffusers read; for SDXL with `clip_l` and `clip_g`, as these expect there. In A1111 and
ComfyUI an embedding is called by its file's name, in diffusers by the token it is loaded under.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence

from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.tensors import pack
from konomi_trainer.merging import low_rank
from konomi_trainer.methods.concept_file import ConceptModel
from konomi_trainer.methods.word_lora import WordLora

MEDIA_TYPE, LORA = "application/zip", "lora.safetensors"
LONG_AGO = (1980, 1, 1, 0, 0, 0)


def lora_tensors(model: ConceptModel) -> Tensors:
    """Returns the LoRA that equals a model's change of weights, in peft's keys, float32, alpha = rank.

    Whole changes keep every singular value, compressed ones their factors: W + lora_B lora_A either way.
    """
    tensors: Tensors = {}
    for name, delta in sorted(model.deltas.items()):
        up, down = delta if isinstance(delta, tuple) else low_rank.factorise(delta, 1.0)
        tensors[f"unet.{name}.lora_A.weight"], tensors[f"unet.{name}.lora_B.weight"] = down, up
    return tensors


def embeddings(model: ConceptModel | WordLora, names: Sequence[str] = ()) -> dict[str, bytes]:
    """Returns file name → bytes of an embedding file, for every concept.

    Args:
        model: what to export.
        names: what other programs call the rows, a text encoder each; those of Stable Diffusion without it.
    """
    files: dict[str, bytes] = {}
    for token, rows in model.rows.items():
        names = names or (("emb_params",) if len(rows) == 1 else ("clip_l", "clip_g"))
        tensors = {name: row[None].float() for name, row in zip(names, rows, strict=True)}
        files[f"{token.strip('<>')}.safetensors"] = pack(tensors)
    return files


def archive(
    model: ConceptModel, header: Mapping[str, str], rename: Callable[[Tensors], Tensors] | None = None
) -> bytes:
    """Returns the zip of LoRA and embeddings; the same model gives the same bytes.

    Args:
        model: what to export.
        header: metadata of the LoRA file.
        rename: gives peft's keys another tool's names and adds its `.alpha` (the rank of each layer); such a file is
            float16. None keeps peft's, in float32, for diffusers.
    """
    tensors = lora_tensors(model)
    if rename is not None:
        tensors = _halved(rename(tensors))
    return _zipped({LORA: pack(tensors, header), **embeddings(model)})


def words_archive(
    model: WordLora,
    names: Sequence[str],
    header: Mapping[str, str],
    rename: Callable[[Tensors], Tensors] | None = None,
) -> bytes:
    """Returns the zip of a LoRA and of the words beside it; see archive.

    Args:
        model: what to export.
        names: see embeddings.
        header: metadata of the LoRA file, where it is renamed; else it has diffusers' own.
        rename: see archive.
    """
    lora = model.lora_file() if rename is None else pack(_halved(rename(dict(model.lora))), header)
    return _zipped({LORA: lora, **embeddings(model, names)})


def _halved(tensors: Tensors) -> Tensors:
    return {name: tensor.float() if name.endswith(".alpha") else tensor.half() for name, tensor in tensors.items()}


def _zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
        for name, data in sorted(files.items()):
            file.writestr(zipfile.ZipInfo(name, LONG_AGO), data)
    return stream.getvalue()


def largest_rank(model: ConceptModel) -> int:
    """Returns the largest rank of a layer's LoRA."""
    return max(delta[0].shape[1] if isinstance(delta, tuple) else min(delta.shape) for delta in model.deltas.values())
