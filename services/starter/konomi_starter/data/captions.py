"""The words of the starter: attributes, captions over them and the caption tokenizer's vocabulary."""

import gzip
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

Record = Mapping[str, str]

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "style": ("comic", "ink", "flat", "toon"),
    "hair_length": ("long", "short"),
    "hair_colour": ("black", "brown", "blonde", "red", "pink", "blue", "green", "purple", "silver"),
    "background": ("white", "blue", "pink", "green", "yellow", "purple", "orange", "dark"),
    "glasses": ("none", "glasses", "sunglasses"),
    "beard": ("none", "beard"),
    "shirt": ("none", "black", "white", "red", "blue", "green", "yellow"),
}
"""Every captioned attribute and its values; the renderer draws no other."""

TASTE_ATTRIBUTES = tuple(name for name in ATTRIBUTES if name != "shirt")
"""What a simulated person may like: a shirt is visible in two of the four styles only."""

CONTEXT_LENGTH = 24
"""Tokens of a caption, start and end included."""


def phrases(record: Record) -> dict[str, str]:
    """Returns the phrase each attribute contributes; an absent case is said too ("no beard")."""
    by_attribute = {
        "hair": f"{record['hair_length']} {record['hair_colour']} hair",
        "glasses": "no glasses" if record["glasses"] == "none" else record["glasses"],
        "beard": "no beard" if record["beard"] == "none" else "beard",
        "background": f"{record['background']} background",
    }
    if record["shirt"] != "none":
        by_attribute["shirt"] = f"{record['shirt']} shirt"
    return by_attribute


def full_caption(record: Record) -> str:
    """Returns the caption that names every attribute, in a fixed order."""
    return ", ".join([f"{record['style']} portrait", *phrases(record).values()])


def caption(record: Record, rng: random.Random, *, drop: float, open_share: float) -> str:
    """Returns a shuffled caption with phrases dropped.

    Args:
        record: the attributes of one portrait.
        rng: the source of randomness.
        drop: probability that a phrase is left out of a detailed caption, 0..1.
        open_share: probability of an open caption that keeps each phrase with 0.25 only; nights use
            open prompts, so the generator must know them.
    """
    if rng.random() < open_share:
        drop = 0.75
    by_attribute = phrases(record)
    words = []
    if rng.random() >= drop:
        words.append(record["hair_length"])
    if rng.random() >= drop:
        words.append(record["hair_colour"])
    parts = [" ".join([*words, "hair"])] if words else []
    parts += [phrase for name, phrase in by_attribute.items() if name != "hair" and rng.random() >= drop]
    rng.shuffle(parts)
    head = "portrait" if rng.random() < drop / 2 else f"{record['style']} portrait"
    return ", ".join([head, *parts])


def build_vocabulary(records: Iterable[Record], folder: Path, *, seed: int) -> None:
    """Trains the caption BPE once and writes it for both readers, with equal ids.

    Writes `bpe.txt.gz` for open_clip's SimpleTokenizer and `tokenizer/` for CLIPTokenizer. The order
    of the vocabulary is CLIP's: bytes, bytes with the end-of-word mark, merges, start, end.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    rng = random.Random(seed)
    captions = [caption(record, rng, drop=0.05, open_share=0.3) for record in records]
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, end_of_word_suffix="</w>", initial_alphabet=alphabet)
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    symbols = list(bytes_to_unicode().values())
    tokens = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(pair) for pair in merges]
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    text = "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges)
    (folder / "bpe.txt.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH).save_pretrained(
        folder / "tokenizer"
    )


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
