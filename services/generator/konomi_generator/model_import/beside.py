"""What stands beside a base model and is imported like one: few-step adapters, IP-Adapters, their image encoders.

Each is told by what it holds, and goes where the base models look for it: see konomi_chassis.models.companions.
"""

import json
import re
from pathlib import Path
from typing import Literal
from unicodedata import combining, normalize

from konomi_chassis.models.companions import FEW_STEP, IP_ADAPTER
from konomi_chassis.models.model_settings import few_step_drawing
from konomi_chassis.models.safetensors_check import check_file

Kind = Literal["few_step", "ip_adapter", "image_encoder"]
FOLDERS: dict[Kind, str] = {"few_step": FEW_STEP, "ip_adapter": IP_ADAPTER, "image_encoder": IP_ADAPTER}
"""Where among the home's models each kind lies."""
LORA = ("lora_unet_", "lora_te", "unet.", "text_encoder.", "lycoris_")
"""How names of a LoRA's tensors begin."""
ODD, LONGEST = re.compile(r"[^A-Za-z0-9._-]+"), 180
ENCODER_FILES = ("config.json", "model.safetensors")


def kind_of(source: Path) -> Kind | None:
    """Says what a file or folder is beside a base model; None where it is none of these, or a pickle.

    Raises:
        FailedPrecondition: it is called safetensors and is none (reason UNSAFE_FORMAT).
    """
    if source.is_dir():
        return "image_encoder" if _is_encoder(source) else None
    if source.suffix.lower() != ".safetensors":
        return None
    names = check_file(source, f"The file {source.name}").tensors
    if any(name.startswith("ip_adapter.") for name in names) and any(name.startswith("image_proj.") for name in names):
        return "ip_adapter"
    low_rank = bool(names) and all(
        (name.startswith(LORA) and "lora" in name) or name.endswith(".alpha") for name in names
    )
    return "few_step" if low_rank and few_step_drawing(source.stem) is not None else None


def files_of(source: Path) -> dict[Path, str]:
    """Returns the files that are copied, each with its path in the folder of its kind."""
    if source.is_dir():
        return {source / name: f"{_plain(source.name)}/{name}" for name in ENCODER_FILES}
    return {source: f"{_plain(source.stem)}.safetensors"}


def _plain(name: str) -> str:
    """Returns a name as a model's settings may hold it: letters without accents, digits, ".", "_" and "-"."""
    bare = "".join(letter for letter in normalize("NFKD", name) if not combining(letter))
    return ODD.sub("-", bare).strip("-._")[:LONGEST].rstrip("-._") or "unnamed"


def _is_encoder(folder: Path) -> bool:
    """Says whether a folder is CLIP's image encoder as transformers saves it, in safetensors."""
    try:
        said = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    kinds = said.get("architectures") if isinstance(said, dict) else None
    return (
        isinstance(kinds, list) and "CLIPVisionModelWithProjection" in kinds and (folder / ENCODER_FILES[1]).is_file()
    )
