"""konomi for A1111 and Forge: every saved image carries the grade its owner would give it, in its infotext.

Put the folder `a1111` into the program's `extensions`. The score is asked for just before the image is saved; where no
rater answers, the image is saved as ever, and the log says why, once.
"""

import io
import os
import sys
from pathlib import Path

from modules import script_callbacks

sys.path.insert(0, str(Path(__file__).parent))
from konomi_http import KonomiRefused, score

ADDRESS = os.environ.get("KONOMI_PAGE", "http://127.0.0.1:50050")
TASTE = os.environ.get("KONOMI_TASTE", "default")
_complained: set = set()


def before_image_saved(params) -> None:
    """Adds "konomi: SSR, konomi utility: 3.91, …" to the infotext of an image that is about to be saved."""
    infotext = params.pnginfo.get("parameters")
    if not infotext:
        return
    try:
        (found,) = score([_encoded(params.image)], ADDRESS, TASTE)
    except KonomiRefused as error:
        if str(error) not in _complained:
            _complained.add(str(error))
            print(f"konomi: {error}")
        return
    if "error" not in found:
        params.pnginfo["parameters"] = with_score(infotext, found)


def with_score(infotext: str, found: dict) -> str:
    """Returns an infotext with a score as the last of its parameters."""
    words = f"konomi: {found['grade']}, konomi utility: {found['utility']:.2f}, konomi doubt: {found['std']:.2f}"
    return f"{infotext}, {words}" if "\nSteps: " in infotext or infotext.startswith("Steps: ") else infotext


def _encoded(image) -> bytes:
    out = io.BytesIO()
    image.convert("RGB").save(out, "PNG", compress_level=1)
    return out.getvalue()


script_callbacks.on_before_image_saved(before_image_saved)
