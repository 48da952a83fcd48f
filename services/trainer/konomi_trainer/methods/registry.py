"""Every training method by its name."""

from collections.abc import Mapping

from konomi_trainer.methods import custom_diffusion, lora
from konomi_trainer.methods.base import Method

METHODS: Mapping[str, Method] = {
    "lora": lora.LORA, "dora": lora.DORA, "loha": lora.LOHA, "lokr": lora.LOKR, "custom_diffusion": custom_diffusion,
}  # fmt: skip
