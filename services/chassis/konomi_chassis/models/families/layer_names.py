"""What adapter files call layers: those of CLIP's text encoders, and of flow transformers as their authors have them.

Files for ComfyUI and kohya's follow the authors, or ComfyUI's own names. Queries, keys and values are one layer
there, in a single block of FLUX with the feed-forward's input beside them.
"""

from konomi_chassis.models.families.family import OriginalLayer

HEAD = "diffusion_model."
"""What stands before the names in a file for ComfyUI."""
DOUBLE, SINGLE = "transformer_blocks.{}.", "single_transformer_blocks.{}."
STREAMS = (
    ("img", ("to_q", "to_k", "to_v"), "to_out.0", "ff"),
    ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", "ff_context"),
)
"""Of a double block: the stream, what asks, what answers, the feed-forward."""


def _double(first: str, last: str) -> tuple[OriginalLayer, ...]:
    """Returns the layers of a double block, given what a feed-forward calls its two."""
    layers = []
    for stream, asking, answering, forward in STREAMS:
        block = f"double_blocks.{{}}.{stream}"
        layers += [
            OriginalLayer(f"{block}_attn.qkv", tuple(f"{DOUBLE}attn.{name}" for name in asking)),
            OriginalLayer(f"{block}_attn.proj", (f"{DOUBLE}attn.{answering}",)),
            OriginalLayer(f"{block}_mlp.0", (f"{DOUBLE}{forward}.{first}",)),
            OriginalLayer(f"{block}_mlp.2", (f"{DOUBLE}{forward}.{last}",)),
        ]
    return tuple(layers)


def _ends(**more: str) -> tuple[OriginalLayer, ...]:
    named = {"img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out", **more}
    return tuple(OriginalLayer(name, (part,)) for name, part in named.items())


FLUX1_LAYERS = (
    *_double("net.0.proj", "net.2"),
    OriginalLayer("double_blocks.{}.img_mod.lin", (f"{DOUBLE}norm1.linear",)),
    OriginalLayer("double_blocks.{}.txt_mod.lin", (f"{DOUBLE}norm1_context.linear",)),
    OriginalLayer(
        "single_blocks.{}.linear1",
        tuple(f"{SINGLE}{name}" for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")),
        (1, 1, 1, 4),
    ),
    OriginalLayer("single_blocks.{}.linear2", (f"{SINGLE}proj_out",)),
    OriginalLayer("single_blocks.{}.modulation.lin", (f"{SINGLE}norm.linear",)),
    *_ends(
        **{
            f"{ours}.{layer}_layer": f"time_text_embed.{theirs}_embedder.linear_{number}"
            for ours, theirs in (("time_in", "timestep"), ("guidance_in", "guidance"), ("vector_in", "text"))
            for number, layer in enumerate(("in", "out"), 1)
        }
    ),
)
FLUX2_LAYERS = (
    *_double("linear_in", "linear_out"),
    OriginalLayer("single_blocks.{}.linear1", (f"{SINGLE}attn.to_qkv_mlp_proj",)),
    OriginalLayer("single_blocks.{}.linear2", (f"{SINGLE}attn.to_out",)),
    *_ends(
        **{
            f"{ours}.{layer}_layer": f"time_guidance_embed.{theirs}_embedder.linear_{number}"
            for ours, theirs in (("time_in", "timestep"), ("guidance_in", "guidance"))
            for number, layer in enumerate(("in", "out"), 1)
        },
        **{
            f"{stream}.lin": f"{stream}.linear"
            for stream in ("single_stream_modulation", "double_stream_modulation_img", "double_stream_modulation_txt")
        },
    ),
)

FLUX_LAST = (OriginalLayer("final_layer.adaLN_modulation.1", ("norm_out.linear",), turned=True),)
"""Shift and scale to its authors, scale and shift to diffusers."""


def _stream(attention: str, widths: tuple[int, ...] = ()) -> tuple[OriginalLayer, ...]:
    """Returns the attention of a single stream and of its refiners, given what diffusers calls it."""
    layers = []
    for blocks in ("layers", "noise_refiner", "context_refiner"):
        block = f"{blocks}.{{}}."
        parts = tuple(f"{block}{attention}.to_{name}" for name in "qkv")
        layers += [
            OriginalLayer(f"{block}attention.qkv", parts, widths),
            OriginalLayer(f"{block}attention.out", (f"{block}{attention}.to_out.0",)),
        ]
    return tuple(layers)


Z_IMAGE_LAYERS = (
    *_stream("attention"),
    OriginalLayer("final_layer.adaLN_modulation.1", ("all_final_layer.2-1.adaLN_modulation.1",)),
    OriginalLayer("final_layer.linear", ("all_final_layer.2-1.linear",)),
    OriginalLayer("x_embedder", ("all_x_embedder.2-1",)),
)
"""As ComfyUI has them; their authors have queries, keys and values apart, as diffusers."""
LUMINA2_LAYERS = (
    *_stream("attn", (3, 1, 1)),
    OriginalLayer("final_layer.adaLN_modulation.1", ("norm_out.linear_1",)),
    OriginalLayer("final_layer.linear", ("norm_out.linear_2",)),
)


def text_calls(name: str, component: str, head: str) -> list[str]:
    """Returns kohya's and diffusers' names of a layer.

    Args:
        name: of the layer, as transformers has it.
        component: of the pipeline.
        head: what kohya's names of the component begin with.
    """
    plain = name.removeprefix("text_model.")
    calls = (plain, f"text_model.{plain}")
    return [*(f"{head}_{call.replace('.', '_')}" for call in calls), *(f"{component}.{call}" for call in calls)]
