"""The nodes, in ComfyUI's classic interface: score a batch, sort it, keep its best, split it by grade.

An IMAGE is a tensor of shape (B, H, W, 3), float, 0..1. Nothing is imported for it: its own methods are enough.
"""

import json

from .konomi_http import GRADES, png, score

ADDRESS = "http://127.0.0.1:50050"
RATER = {
    "address": ("STRING", {"default": ADDRESS, "tooltip": "What `konomi up` prints as its page."}),
    "taste": ("STRING", {"default": "default", "tooltip": "Id of the taste."}),
}


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
    DESCRIPTION = "How the owner of this taste would grade each image."

    @classmethod
    def INPUT_TYPES(cls):
        """Names the inputs."""
        return {"required": {"images": ("IMAGE",)}, "optional": RATER}

    def run(self, images, address=ADDRESS, taste="default"):
        """Returns the batch as it came, utilities, grades, and every score as JSON."""
        scores = score(encoded(images), address, taste)
        utilities = [one.get("utility", 0.0) for one in scores]
        return images, utilities, [one.get("grade", "") for one in scores], json.dumps(scores)


class KonomiSort(KonomiScore):
    """Sorts a batch, best lower bound first, and keeps the best of it."""

    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING")
    RETURN_NAMES = ("images", "utility", "grade")
    OUTPUT_IS_LIST = (False, True, True)
    DESCRIPTION = "The batch, best first; keep only the best few, or all with 0."

    @classmethod
    def INPUT_TYPES(cls):
        """Names the inputs."""
        keep = ("INT", {"default": 0, "min": 0, "max": 4096, "tooltip": "How many to keep; 0 keeps all."})
        return {"required": {"images": ("IMAGE",), "keep": keep}, "optional": RATER}

    def run(self, images, keep=0, address=ADDRESS, taste="default"):
        """Returns the best of the batch, their utilities and grades."""
        scores = score(encoded(images), address, taste)
        order = sorted(range(len(scores)), key=lambda place: -bound(scores[place]))[: keep or None]
        utilities = [scores[place].get("utility", 0.0) for place in order]
        return images[order], utilities, [scores[place].get("grade", "") for place in order]


class KonomiBucket(KonomiScore):
    """Splits a batch by grade: images graded at least so high, and the rest."""

    RETURN_TYPES = ("IMAGE", "IMAGE", "INT", "INT")
    RETURN_NAMES = ("at least", "below", "count at least", "count below")
    OUTPUT_IS_LIST = (False, False, False, False)
    DESCRIPTION = "Images the owner would most likely grade at least so high, and the rest; either may be empty."

    @classmethod
    def INPUT_TYPES(cls):
        """Names the inputs."""
        return {"required": {"images": ("IMAGE",), "grade": (list(GRADES), {"default": "SSR"})}, "optional": RATER}

    def run(self, images, grade="SSR", address=ADDRESS, taste="default"):
        """Returns both parts of the batch, in their order, and how many each has."""
        scores = score(encoded(images), address, taste)
        least = GRADES.index(grade)
        good = [at for at, one in enumerate(scores) if one.get("grade") and GRADES.index(one["grade"]) >= least]
        rest = [at for at in range(len(scores)) if at not in good]
        return images[good], images[rest], len(good), len(rest)


NODE_CLASS_MAPPINGS = {"KonomiScore": KonomiScore, "KonomiSort": KonomiSort, "KonomiBucket": KonomiBucket}
NODE_DISPLAY_NAME_MAPPINGS = {
    "KonomiScore": "konomi: score",
    "KonomiSort": "konomi: best first",
    "KonomiBucket": "konomi: split by grade",
}
