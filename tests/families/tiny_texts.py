"""Tiny language models and tokenizers as the flow families read texts with, built in place: no word is fetched."""

import torch
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer, Qwen2Tokenizer, Qwen3Config, Qwen3Model

CHAT = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
"""What Qwen 3's own template makes of a chat without tools."""


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Qwen's byte-level tokenizer over bytes and a few merges."""
    letters = sorted(ByteLevel.alphabet())
    merges = [("c", "a"), ("ca", "t"), ("o", "w"), ("ow", "l")]
    words = [*letters, *("".join(merge) for merge in merges), "<|endoftext|>"]
    tokens = Qwen2Tokenizer(vocab={word: place for place, word in enumerate(words)}, merges=merges)
    tokens.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokens.chat_template = CHAT
    return tokens


def qwen(width: int, tokens: Qwen2Tokenizer) -> Qwen3Model:
    """Qwen 3 at reduced width: three layers, of which the last but one is read."""
    torch.manual_seed(9)
    return Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokens),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=width // 2,
            max_position_embeddings=1024,
        )
    )


def gemma_tokenizer() -> GemmaTokenizer:
    """Gemma's tokenizer over the printable letters, all others by their bytes."""
    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = ["\u2581", *(chr(code) for code in range(33, 127))]
    words = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, "ca", "cat"]
    merges = [("c", "a"), ("ca", "t")]
    tokens = GemmaTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=merges)
    begun = [("<bos>", tokens.convert_tokens_to_ids("<bos>"))]
    tokens._tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=begun)
    return tokens


def gemma(width: int, tokens: GemmaTokenizer) -> Gemma2Model:
    """Gemma 2 at reduced width."""
    torch.manual_seed(10)
    return Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokens),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=width // 2,
            max_position_embeddings=1024,
        )
    )
