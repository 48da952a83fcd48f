"""The nodes: score a batch, keep its best, split it by grade, send it to be graded, draw with the unit that is served.

An IMAGE is a tensor of shape (B, H, W, 3), float, 0..1. Nothing is imported for it: its own methods are enough. What
belongs to ComfyUI is imported where a node is run, so that the pack loads without it.
"""

import json
import os

from . import exchange
from .konomi_http import GRADES, KonomiRefused, is_here, png, score

ADDRESS = "http://127.0.0.1:50050"
RATER = {
    "address": (
        "STRING",
        {"default": ADDRESS, "tooltip": "What `konomi up` prints as its page; empty takes KONOMI_PAGE."},
    ),
    "taste": ("STRING", {"default": "default", "tooltip": "Id of the taste."}),
}


def trusted(address: str) -> str:
    """Returns where to ask: an address of this machine, or the one its owner put into KONOMI_PAGE.

    A workflow comes from anybody, and its addresses with it: none of them gets pictures and a token by being opened.

    Raises:
        KonomiRefused: it is neither, or no address.
    """
    address, own = (address or "").strip(), os.environ.get("KONOMI_PAGE", "").strip()
    if not address:
        return own or ADDRESS
    if not address.startswith(("http://", "https://")):
        raise KonomiRefused(f'expected an address like "{ADDRESS}", got {address!r}')
    if is_here(address) or (own and address.rstrip("/") == own.rstrip("/")):
        return address
    raise KonomiRefused(
        f"{address!r} is not on this machine; to send it pictures and your token, put it into KONOMI_PAGE in the "
        "environment of ComfyUI"
    )


def encoded(images) -> list:
    """Returns each image of a batch as a PNG."""
    pixels = (images[..., :3].clamp(0, 1) * 255).round().byte().cpu().contiguous().numpy()
    _, height, width, _ = pixels.shape
    return [png(width, height, one.tobytes()) for one in pixels]


def bound(one: dict) -> float:
    """Returns what images are ordered by; one that could not be read comes last."""
    return one.get("lower_bound", float("-inf"))


class KonomiScore:
    """Scores a batch: how its owner would grade each image, with the doubt."""

    CATEGORY = "konomi"
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING", "STRING")
    RETURN_NAMES = ("images", "utility", "grade", "scores")
    OUTPUT_IS_LIST = (False, True, True, False)
    OUTPUT_TOOLTIPS = (
        "The batch as it came.",
        "Expected grade of each image, 1 to 5.",
        "Likeliest grade of each image; empty for one that could not be scored.",
        "All of every score, as JSON.",
    )
    DESCRIPTION = "How the owner of this taste would grade each image."

    @classmethod
    def INPUT_TYPES(cls):
        """Names the inputs."""
        return {"required": {"images": ("IMAGE",)}, "optional": RATER}

    @classmethod
    def IS_CHANGED(cls, address=ADDRESS, taste="default", **_):
        """Returns the rater version: after a new fit, ComfyUI asks again for pictures it asked for before."""
        return exchange.version_of(trusted(address), taste)

    def run(self, images, address=ADDRESS, taste="default"):
        """Returns the batch as it came, utilities, grades, and every score as JSON."""
        scores = score(encoded(images), trusted(address), taste)
        utilities = [one.get("utility", 0.0) for one in scores]
        return images, utilities, [one.get("grade", "") for one in scores], json.dumps(scores)


class KonomiSort(KonomiScore):
    """Sorts a batch, best lower bound first, and keeps the best of it."""

    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING")
    RETURN_NAMES = ("images", "utility", "grade")
    OUTPUT_IS_LIST = (False, True, True)
    OUTPUT_TOOLTIPS = (
        "The best images, best first; never empty.",
        "Expected grade of each of them, 1 to 5.",
        "Likeliest grade of each of them.",
    )
    DESCRIPTION = "The batch, best first; keep only the best few, or all with 0."

    @classmethod
    def INPUT_TYPES(cls):
        """Names the inputs."""
        keep = ("INT", {"default": 0, "min": 0, "max": 4096, "tooltip": "How many to keep; 0 keeps all."})
        return {"required": {"images": ("IMAGE",), "keep": keep}, "optional": RATER}

    def run(self, images, keep=0, address=ADDRESS, taste="default"):
        """Returns the best of the batch, their utilities and grades."""
        scores = score(encoded(images), trusted(address), taste)
        order = sorted(range(len(scores)), key=lambda place: -bound(scores[place]))[: keep or None]
        utilities = [scores[place].get("utility", 0.0) for place in order]
        return images[order], utilities, [scores[place].get("grade", "") for place in order]


class KonomiBucket(KonomiScore):
    """Splits a batch by grade: images graded at least so high, and the rest."""

    RETURN_TYPES = ("IMAGE", "IMAGE", "INT", "INT")
    RETURN_NAMES = ("at least", "below", "count at least", "count below")
    OUTPUT_IS_LIST = (False, False, False, False)
    OUTPUT_TOOLTIPS = (
        "Images graded at least so high. Where there are none, what is connected here does not run.",
        "The other images. Where there are none, what is connected here does not run.",
        "How many are graded at least so high; may be 0.",
        "How many are not; may be 0.",
    )
    DESCRIPTION = (
        "Images the owner would most likely grade at least so high, and the rest. Either may be empty: what is "
        "connected to an empty output does not run."
    )

    @classmethod
    def INPUT_TYPES(cls):
        """Names the inputs."""
        return {"required": {"images": ("IMAGE",), "grade": (list(GRADES), {"default": "SSR"})}, "optional": RATER}

    def run(self, images, grade="SSR", address=ADDRESS, taste="default"):
        """Returns both parts of the batch, in their order, and how many each has."""
        scores = score(encoded(images), trusted(address), taste)
        least = GRADES.index(grade)
        good = [at for at, one in enumerate(scores) if one.get("grade") and GRADES.index(one["grade"]) >= least]
        rest = [at for at in range(len(scores)) if at not in good]
        return _unless_empty(images[good]), _unless_empty(images[rest]), len(good), len(rest)


def _unless_empty(images):
    """Returns a batch; for an empty one, what makes ComfyUI pass over the nodes behind it, most of which would fail."""
    if len(images):
        return images
    from comfy_execution.graph import ExecutionBlocker

    return ExecutionBlocker(None)


class KonomiConnection:
    """Asks who answers at an address."""

    CATEGORY = "konomi"
    FUNCTION = "run"
    OUTPUT_NODE = True
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("report",)
    OUTPUT_TOOLTIPS = ("Who answers, and what the taste knows.",)
    DESCRIPTION = "Says whether konomi answers, and what the taste knows; or what to do."

    @classmethod
    def INPUT_TYPES(cls):
        """Names the inputs."""
        return {"required": {}, "optional": RATER}

    @classmethod
    def IS_CHANGED(cls, **_):
        """Returns what equals nothing: it asks each time."""
        return float("nan")

    def run(self, address=ADDRESS, taste="default"):
        """Returns a sentence, and shows it."""
        report = exchange.report(trusted(address), taste)
        return {"ui": {"text": [report]}, "result": (report,)}


class KonomiSend:
    """Brings a batch into the library of a taste, to be graded on konomi's page."""

    CATEGORY = "konomi"
    FUNCTION = "run"
    OUTPUT_NODE = True
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("images", "report")
    OUTPUT_TOOLTIPS = ("The batch as it came.", "How many were sent, and how many the library knew.")
    DESCRIPTION = "Brings the images into the library of the taste, where you grade them. Needs the owner's token."

    @classmethod
    def INPUT_TYPES(cls):
        """Names the inputs."""
        about = {"default": "", "multiline": True, "tooltip": "What they were drawn from; may be left empty."}
        return {"required": {"images": ("IMAGE",)}, "optional": {"prompt": ("STRING", about), **RATER}}

    def run(self, images, prompt="", address=ADDRESS, taste="default"):
        """Returns the batch as it came and a sentence, and shows the sentence."""
        place = trusted(address)
        sent = exchange.send(encoded(images), place, taste, prompt)
        refused = [one["error"] for one in sent if one["error"]]
        if refused:
            raise KonomiRefused(f"konomi took {len(sent) - len(refused)} of {len(sent)} images: {refused[0]}")
        known = sum(one["known"] for one in sent)
        report = f"{len(sent) - known} new in the library of {taste}, {known} known already; grade them: konomi label"
        return {"ui": {"text": [report]}, "result": (images, report)}


class KonomiServedUnit:
    """Puts the unit a taste serves over a model, as the LoRA it is."""

    CATEGORY = "konomi"
    FUNCTION = "run"
    RETURN_TYPES = ("MODEL", "CLIP", "STRING")
    RETURN_NAMES = ("model", "clip", "unit")
    OUTPUT_TOOLTIPS = (
        "The model with the unit's LoRA; as it came where the base model is served.",
        "The same of the text encoder; empty where none is connected.",
        "Name of the unit; empty where the base model is served.",
    )
    DESCRIPTION = (
        "Loads the unit that the taste serves now, from konomi and not from a file. The model must be the one the unit "
        "was trained on. Needs the owner's token."
    )
    _kept: tuple = ("", None)

    @classmethod
    def INPUT_TYPES(cls):
        """Names the inputs."""
        strength = {"default": 0.8, "min": -2.0, "max": 2.0, "step": 0.05, "tooltip": "How much of it; 0.8 or less."}
        required = {"model": ("MODEL",), "strength": ("FLOAT", strength)}
        return {"required": required, "optional": {"clip": ("CLIP",), **RATER}}

    @classmethod
    def IS_CHANGED(cls, address=ADDRESS, taste="default", **_):
        """Returns which unit is served: after a night, ComfyUI loads the new one."""
        return exchange.served(trusted(address), taste).get("adapterDigest", "")

    def run(self, model, strength=0.8, clip=None, address=ADDRESS, taste="default"):
        """Returns both with the LoRA, and the unit's name."""
        place = trusted(address)
        unit = exchange.served(place, taste)
        if not unit:
            return model, clip, ""
        from comfy import sd

        name = unit.get("displayName") or unit["name"]
        drawn, told = sd.load_lora_for_models(model, clip, self._lora(unit, place), strength, strength)
        if _patches(drawn) == _patches(model):
            base = unit.get("baseModel", "another base model")
            raise KonomiRefused(f"{name} fits nothing of this model: it was trained on {base}; load that checkpoint")
        return drawn, told, name

    @classmethod
    def _lora(cls, unit: dict, address: str) -> dict:
        digest = unit["adapterDigest"]
        if cls._kept[0] != digest:
            from safetensors.torch import load

            cls._kept = (digest, load(exchange.lora_of(unit, address)))
        return cls._kept[1]


def _patches(model) -> int:
    """Returns how many changes of weights a model carries."""
    return sum(map(len, model.patches.values()))


NODE_CLASS_MAPPINGS = {
    "KonomiScore": KonomiScore,
    "KonomiSort": KonomiSort,
    "KonomiBucket": KonomiBucket,
    "KonomiSend": KonomiSend,
    "KonomiServedUnit": KonomiServedUnit,
    "KonomiConnection": KonomiConnection,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "KonomiScore": "konomi: score",
    "KonomiSort": "konomi: best first",
    "KonomiBucket": "konomi: split by grade",
    "KonomiSend": "konomi: send for grading",
    "KonomiServedUnit": "konomi: served unit",
    "KonomiConnection": "konomi: connection",
}
