"""Batches drawn ahead in a thread are those drawn when they are asked for."""

import threading
from pathlib import Path

import torch

from konomi_trainer.data.ahead import Ahead


def test_values_are_the_same_drawn_once_and_the_next_one_in_a_thread(tmp_path: Path) -> None:
    drawn: list[tuple[int, str]] = []
    following = threading.Event()

    def draw(key: int) -> torch.Tensor:
        drawn.append((key, threading.current_thread().name))
        if key == 1:
            following.set()
        return torch.randn(3, generator=torch.Generator().manual_seed(key))

    plain, ahead = (Ahead(draw, lambda key: key + 1, early, 2) for early in (False, True))
    first = ahead[0]
    assert following.wait(60), "the next one is drawn before anybody asks"
    values = [first, *(ahead[key] for key in (0, 1, 1, 2, 7, 3))]
    assert ahead[3] is values[-1]
    for key, value in zip((0, 0, 1, 1, 2, 7, 3), values, strict=True):
        assert torch.equal(value, plain[key]), key
    own = threading.current_thread().name
    early = [key for key, thread in drawn if thread != own]
    assert early[:2] == [1, 2] and len(early) == len(set(early))
    assert len({thread for key, thread in drawn if thread != own}) == 1
