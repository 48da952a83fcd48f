"""Captions, the vocabulary both tokenizers share, and open prompts."""

import random

import pytest

from konomi_starter.data.captions import (
    ATTRIBUTES,
    CONTEXT_LENGTH,
    build_vocabulary,
    caption,
    full_caption,
    open_prompts,
)


def records(count: int, seed: int = 0) -> list[dict[str, str]]:
    rng = random.Random(seed)
    return [{name: rng.choice(values) for name, values in ATTRIBUTES.items()} for _ in range(count)]


def test_full_caption_says_absent_things_too():
    record = {n: v[0] for n, v in ATTRIBUTES.items()}
    assert full_caption(record) == "comic portrait, long black hair, no glasses, no beard, white background"


def test_open_captions_leave_most_out():
    rng = random.Random(1)
    rows = records(300)
    closed = [caption(r, rng, drop=0.0, open_share=0.0).count(",") for r in rows]
    opened = [caption(r, rng, drop=0.0, open_share=1.0).count(",") for r in rows]
    assert min(closed) >= 4
    assert sum(opened) < sum(closed) / 2


def test_both_tokenizers_agree_on_every_caption(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    from transformers import CLIPTokenizer

    rows = records(400)
    build_vocabulary(rows, tmp_path, seed=0)
    ours = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    theirs = open_clip.tokenizer.SimpleTokenizer(bpe_path=str(tmp_path / "bpe.txt.gz"), context_length=CONTEXT_LENGTH)
    for text in [full_caption(r) for r in rows[:100]] + open_prompts(50, 1) + ["a cute catgirl!"]:
        ids = ours(text).input_ids
        assert theirs(text)[0].tolist()[: len(ids)] == ids
        assert len(ids) <= CONTEXT_LENGTH


def test_open_prompts_are_seeded_and_varied():
    assert open_prompts(64, 1) == open_prompts(64, 1) != open_prompts(64, 2)
    assert len(set(open_prompts(64, 1))) > 20
