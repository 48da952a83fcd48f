"""What adapter files call the layers of a CLIP text encoder."""


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
