"""konomi for A1111 and Forge: every saved image carries the grade its owner would give it, in its infotext.

The score is asked for just before the image is saved, in a thread of its own and for a few seconds at most: where no
rater answers in time, the image is saved as ever, the log says why, once, and for a while nobody is asked again.
"""

import io
import os
import threading
import time

from konomi_http import KonomiRefused, score
from modules import script_callbacks, shared

ADDRESS = os.environ.get("KONOMI_PAGE", "http://127.0.0.1:50050")
TASTE = os.environ.get("KONOMI_TASTE", "default")
SECONDS = 5
REST = 30.0
"""Seconds for which nobody is asked after a failure: a run of many images does not wait once for each."""
SECTION = ("konomi", "konomi")


class Asker:
    """Asks for scores one at a time, and never for longer than it is given.

    Args:
        now: the clock, in seconds.
    """

    def __init__(self, now=time.monotonic):
        self._now = now
        self._thread = None
        self._rest_until = 0.0
        self._complained = set()

    def ask(self, data: bytes, address: str, taste: str, seconds: float):
        """Returns the score of an encoded image; None where there is none in time."""
        if self._now() < self._rest_until or (self._thread is not None and self._thread.is_alive()):
            return None
        answer: list = []
        # A daemon: a rater that never answers keeps neither the save nor the program's end waiting.
        self._thread = threading.Thread(target=_score, args=(answer, data, address, taste, seconds), daemon=True)
        self._thread.start()
        self._thread.join(seconds)
        found = answer[0] if answer else f"no answer from {address} within {seconds:g} seconds"
        if isinstance(found, dict):
            return found
        self._rest_until = self._now() + REST
        if found not in self._complained:
            self._complained.add(found)
            print(f"konomi: {found}; images are saved without a grade")
        return None


def _score(answer: list, data: bytes, address: str, taste: str, seconds: float) -> None:
    try:
        answer.append(score([data], address, taste, seconds=seconds)[0])
    except (KonomiRefused, IndexError, KeyError, TypeError) as error:
        answer.append(str(error) if isinstance(error, KonomiRefused) else f"an answer of {address} was not understood")


ASKER = Asker()


def settings() -> None:
    """Adds the page "konomi" to the program's settings; there is no token among them, which would stand in a file."""
    options = {
        "konomi_enabled": (True, "Write the grade you would give an image into its infotext when it is saved"),
        "konomi_address": (ADDRESS, "Address that `konomi up` prints as its page"),
        "konomi_taste": (TASTE, "Id of the taste"),
        "konomi_seconds": (SECONDS, "Seconds a save waits for konomi at most"),
    }
    for name, (default, label) in options.items():
        info = shared.OptionInfo(default, label, section=SECTION)
        info.restrict_api = True  # whoever may call the API shall not choose where pictures and token go
        shared.opts.add_option(name, info)


def _option(name: str, default):
    return getattr(shared.opts, name, default)


def before_image_saved(params) -> None:
    """Adds "konomi: SSR, konomi utility: 3.91, …" to the infotext of an image that is about to be saved."""
    infotext = params.pnginfo.get("parameters")
    if not infotext or not _option("konomi_enabled", True):
        return
    address, taste = _option("konomi_address", ADDRESS) or ADDRESS, _option("konomi_taste", TASTE) or TASTE
    seconds = max(1.0, min(60.0, float(_option("konomi_seconds", SECONDS) or SECONDS)))
    found = ASKER.ask(_encoded(params.image), address, taste, seconds)
    if found is not None and "error" not in found:
        params.pnginfo["parameters"] = with_score(infotext, found)


def with_score(infotext: str, found: dict) -> str:
    """Returns an infotext with a score as the last of its parameters."""
    words = f"konomi: {found['grade']}, konomi utility: {found['utility']:.2f}, konomi doubt: {found['std']:.2f}"
    return f"{infotext}, {words}" if "\nSteps: " in infotext or infotext.startswith("Steps: ") else infotext


def _encoded(image) -> bytes:
    out = io.BytesIO()
    image.convert("RGB").save(out, "PNG", compress_level=1)
    return out.getvalue()


script_callbacks.on_ui_settings(settings)
script_callbacks.on_before_image_saved(before_image_saved)
