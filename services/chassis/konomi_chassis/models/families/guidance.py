"""How a network's answers with and without a text become one, by the rule of a family's own pipelines.

All say the same of w, classifier-free guidance by Ho and Salimans 2022 (2207.12598), eq. 6:
without + w (with - without). Written from the text, with + (w - 1) (with - without), it differs in the last bit, which
pictures are compared by; Z-Image counts so. Lumina 2 gives the guided answer the length of the text's own, so that a
strong guidance does not burn out: Lin et al. 2023 (2305.08891), section 3.4, do it by spread. Qwen-Image does so token
by token.
"""

from collections.abc import Callable, Mapping

import torch

from konomi_chassis.models.families import packing


def guided_by(rule: str, without: torch.Tensor, with_text: torch.Tensor, scale: float) -> torch.Tensor:
    """Returns the guided answer.

    Args:
        rule: of a family, see Guiding.
        without: (N, C, h, w) answers without a text, or to what to keep away from.
        with_text: (N, C, h, w) answers with the text.
        scale: w; 1 is no guidance.
    """
    return RULES[rule](without, with_text, scale)


def _plain(without: torch.Tensor, with_text: torch.Tensor, scale: float) -> torch.Tensor:
    return without + scale * (with_text - without)


def _from_text(without: torch.Tensor, with_text: torch.Tensor, scale: float) -> torch.Tensor:
    without, with_text = without.float(), with_text.float()
    return with_text + (scale - 1) * (with_text - without)


def _same_length(without: torch.Tensor, with_text: torch.Tensor, scale: float) -> torch.Tensor:
    """Lengths are those of the rows of a latent, as Lumina 2's pipeline has it."""
    guided = _plain(without, with_text, scale)
    return guided * (with_text.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))


def _same_token_length(without: torch.Tensor, with_text: torch.Tensor, scale: float) -> torch.Tensor:
    """Lengths are those of the tokens, 2 x 2 cells each, as Qwen-Image's pipeline has it."""
    text = packing.pack(with_text)
    guided = _plain(packing.pack(without), text, scale)
    guided = guided * (text.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))
    return packing.unpack(guided, *without.shape[-2:])


RULES: Mapping[str, Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]] = {
    "plain": _plain,
    "from_text": _from_text,
    "same_length": _same_length,
    "same_token_length": _same_token_length,
}
"""Rule → how it is reckoned."""
