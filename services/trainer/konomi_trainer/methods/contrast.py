"""Signed targets: a fit moves toward selected images and away from avoided ones, measured from the base model's answer.

DiffusionNFT (Zheng et al. 2025, 2509.16117) trains v_θ on images with an optimality r in 0..1 by

    L = r ‖v⁺ - v‖² + (1 - r) ‖v⁻ - v‖²,   v⁺ = (1 - β) v_old + β v_θ,   v⁻ = (1 + β) v_old - β v_θ,

where v is what the noise's path asks for and v_old the answer of the model the images come from. With d = v_θ - v_old
and e = v - v_old both squares have the same quadratic part: ‖β d - e‖² and ‖β d + e‖², so that

    L = β² ‖d - (2 r - 1) e / β‖² + a constant.

It is a plain regression: s = 2 r - 1 is a sign and β a step length. An image to move toward has s = 1, one to turn
away from s = -1, and s = 0 is a pull to the base. Dividing by β, as done here, keeps the size of the gradient near that
of the plain loss: β ‖v_θ - (v_old + s e / β)‖². All of it is in the space of the network's own answers, so it holds for
noise, v and flow alike: they differ by a factor of each time, which is part of how times are weighted. The old model is
the base one, since every fit starts from it: the same network with its adapter switched off.
"""

from collections.abc import Sequence

import torch

from konomi.errors import InvalidArgument
from konomi_trainer.configuration import Configuration
from konomi_trainer.data.manifest import AVOIDED, ManifestItem

REASON = "CONTRAST"
FIELD = "hyper_parameters.contrast_beta"


def signed_target(target: torch.Tensor, base: torch.Tensor, signs: torch.Tensor, beta: float) -> torch.Tensor:
    """Returns what the network should answer, float32.

    Args:
        target: (B, C, h, w) what the path asks for.
        base: (B, C, h, w) the base model's answer.
        signs: (B,) 1 toward an image, -1 away from it, 0 to stay.
        beta: step length, above 0: the smaller, the farther.
    """
    plain = base.float()
    return plain + (signs.float() / beta).view(-1, *(1,) * (plain.dim() - 1)) * (target.float() - plain)


def check(numbers: Configuration, can_switch_off: bool, items: Sequence[ManifestItem]) -> None:
    """Refuses a run whose images and numbers do not fit together.

    Args:
        numbers: of the run.
        can_switch_off: whether the method's change can be switched off for a forward; see Method.signed.
        items: of its manifest.

    Raises:
        InvalidArgument: avoided images without `contrast_beta` or the other way round, or a method or a learning text
            encoder whose base model is not at hand while it learns.
    """
    roles = {item.role for item in items}
    if not numbers.contrast_beta:
        if AVOIDED in roles:
            raise _refused(
                "expected contrast_beta from 0.35 to 4 for a manifest with avoided images; came 0, which would learn "
                "them as if they were liked: set it, or leave these images out"
            )
        return
    if not can_switch_off:
        raise _refused(
            f"expected a method whose change can be switched off while it learns, as contrast_beta needs; came "
            f"{numbers.method}: use lora, dora, loha or lokr, or contrast_beta 0"
        )
    if numbers.text_encoder_learning_rate > 0:
        raise _refused(
            "expected text encoders that stay as they are, since contrast_beta compares with the base model's answer; "
            f"came text_encoder_learning_rate {numbers.text_encoder_learning_rate:g}: set one of the two to 0"
        )
    if not {"selected", AVOIDED} <= roles:
        raise _refused(
            "expected selected and avoided images in the manifest, as contrast_beta needs; came only the roles "
            f"{', '.join(sorted(roles))}: choose images to turn away from as well, or set contrast_beta to 0"
        )


def _refused(message: str) -> InvalidArgument:
    return InvalidArgument(message, reason=REASON, field=FIELD)
