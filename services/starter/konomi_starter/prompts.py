"""Open prompts: they leave taste something to decide."""

import random

from konomi_starter.captions import ATTRIBUTES


def open_prompts(count: int, seed: int) -> list[str]:
    """Returns `count` prompts: a style or none, and for half of them one more attribute."""
    rng = random.Random(f"prompts-{seed}")
    return [_open_prompt(rng) for _ in range(count)]


def _open_prompt(rng: random.Random) -> str:
    head = f"{rng.choice([*ATTRIBUTES['style'], ''])} portrait".strip()
    if rng.random() < 0.5:
        return head
    choices = (
        f"{rng.choice(ATTRIBUTES['hair_colour'])} hair",
        f"{rng.choice(ATTRIBUTES['hair_length'])} hair",
        f"{rng.choice(ATTRIBUTES['background'])} background",
        rng.choice(("glasses", "sunglasses", "beard", "no glasses", "no beard")),
    )
    return f"{head}, {rng.choice(choices)}"
