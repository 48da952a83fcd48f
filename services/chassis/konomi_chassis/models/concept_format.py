"""The file of a Custom Diffusion model, format konomi.custom_diffusion/1: what the trainer writes and generators read.

One safetensors file, no pickle. Header metadata, every value text:
    format       "konomi.custom_diffusion/1"
    base_model, base_digest    id of the base model and digest of its weights
    layout       "sd" or "sdxl"
    concepts     JSON list of {"token", "class_word", "initial_word"}
    konomi       JSON record of where it comes from; its "method" is the training method
Tensors, float32 (a reader takes any floating type):
    `<attention>.to_k.weight`, `<attention>.to_v.weight`    (O, D) what is added to the base model's weight of that
        module of the UNet, for example `mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight`;
    or, compressed, the pair `<attention>.to_k.u` (O, R) and `<attention>.to_k.v` (R, D), whose product u @ v it is;
    `tokens.<V*>`      (D1,) the embedding of the concept's token in the (first) text encoder;
    `tokens_2.<V*>`    (D2,) the same in SDXL's second one.
To use it at a scale s: W += s * delta, and one new token per concept with its row, always whole. Where a text encoder
looks for its end token by the largest id (eos_token_id 2 in its configuration), the new ids lie above that token's:
give it the true id of the end token.

Where a base model has no cross-attention whose keys and values could change, the words are learnt beside a LoRA. That
file, format konomi.concept_lora/1, holds both: the header entries above and `lora_adapter_metadata`, as a LoRA of
diffusers has it; the LoRA's tensors by diffusers' names, and the rows by the names above.
"""

FORMAT = "konomi.custom_diffusion/1"
WORDS_FORMAT = "konomi.concept_lora/1"
MEDIA_TYPE = "application/vnd.konomi.custom-diffusion+safetensors"
TOKEN_PREFIXES = {"text_encoder": "tokens.", "text_encoder_2": "tokens_2."}
"""What the names of rows begin with, by the text encoder they belong to."""
WHOLE, LEFT, RIGHT = "weight", "u", "v"
"""What the names of changes end with: a whole one, and the factors of a compressed one."""
PROJECTIONS = (".to_k", ".to_v")


def token_of(name: str) -> tuple[str, str] | None:
    """Returns the text encoder and the token of a row, by the name of its tensor; None for any other tensor."""
    for encoder, prefix in TOKEN_PREFIXES.items():
        if name.startswith(prefix):
            return encoder, name.removeprefix(prefix)
    return None


def change_of(name: str) -> tuple[str, str] | None:
    """Returns the module and WHOLE, LEFT or RIGHT of a change of weights, by the tensor's name; None for others."""
    module, _, kind = name.rpartition(".")
    return (module, kind) if module.endswith(PROJECTIONS) and kind in (WHOLE, LEFT, RIGHT) else None
