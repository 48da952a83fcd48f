"""What the nodes exchange with konomi beside scores: who answers, pictures to be graded, the unit that is served."""

import hashlib
from base64 import b64decode
from contextlib import contextmanager

from .konomi_http import KonomiRefused, call, encoded, stream

CHUNK = 512 * 1024
FOLDER = "ComfyUI"
"""Under which pictures that were sent stand in the library."""


def taste_of(address: str, taste: str) -> dict:
    """Returns what is known of a taste, with the contract's JSON names.

    Raises:
        KonomiRefused: konomi cannot be reached, or refused.
    """
    return call("RaterService/GetTaste", {"name": f"tastes/{taste}"}, address, seconds=15)


def report(address: str, taste: str) -> str:
    """Returns a sentence on who answers at an address, and what is still missing; errors as of `taste_of`."""
    found = taste_of(address, taste)
    images, grades, pairs = (int(found.get(name, 0)) for name in ("imageCount", "labelCount", "comparisonCount"))
    known = f"konomi answers; the taste {taste} has {images} pictures, {grades} grades and {pairs} comparisons"
    version = found.get("activeRaterVersion", "").rpartition("/")[2]
    if not version:
        return f"{known}. No rater scores yet: grade some pictures, then run: konomi rater fit"
    return f"{known}. Rater {version} scores."


def version_of(address: str, taste: str) -> str:
    """Returns the rater version that scores; another one, and ComfyUI asks anew. Errors as of `taste_of`."""
    return str(taste_of(address, taste).get("activeRaterVersion", ""))


def send(images: list, address: str, taste: str, prompt: str = "") -> list:
    """Brings encoded pictures into a taste's library, where they can be graded.

    Args:
        images: bytes of each picture.
        address: of the page.
        taste: id of the taste.
        prompt: what they were drawn from; at most 4 KiB.

    Returns:
        a dict for each: its "digest", "known" where the library had it already, and "error" where it was refused.

    Raises:
        KonomiRefused: konomi cannot be reached, or refused; a token of scope `tool` may not send pictures.
    """
    with owners_token():
        digests = [_put(data, address) for data in images]
    about = {"source": "SOURCE_IMPORTED", "prompt": prompt}
    requests = [
        {"taste": f"tastes/{taste}", "image": {"digest": digest, "path": f"{FOLDER}/{digest[:12]}", **about}}
        for digest in digests
    ]
    replies = stream("RaterService/AddImages", requests, address)
    return [
        {
            "digest": digest,
            "known": bool(reply.get("alreadyKnown")),
            "error": reply.get("error", {}).get("message", ""),
        }
        for digest, reply in zip(digests, replies, strict=True)
    ]


def _put(data: bytes, address: str) -> str:
    digest = hashlib.sha256(data).hexdigest()
    parts = [{"header": {"mediaType": "image/png", "digest": digest}}]
    parts += [{"chunk": encoded(data[start : start + CHUNK])} for start in range(0, len(data), CHUNK)]
    stream("ArtifactService/PutArtifact", parts, address)
    return digest


@contextmanager
def owners_token():
    """Says of a refusal for want of rights whose token has them."""
    try:
        yield
    except KonomiRefused as error:
        if error.code != "permission_denied":
            raise
        words = f"{error} It takes the owner's token: tokens/owner.token of konomi's home"
        raise KonomiRefused(words, error.code) from error


def served(address: str, taste: str) -> dict:
    """Returns the model a taste serves; nothing where it serves its base model. Errors as of `taste_of`."""
    with owners_token():
        reply = call("TrainerService/ListModels", {"taste": f"tastes/{taste}", "pageSize": 1000}, address)
    return next((model for model in reply.get("models", []) if model.get("current")), {})


def lora_of(model: dict, address: str) -> bytes:
    """Returns a model as a LoRA that ComfyUI reads, a safetensors file.

    Raises:
        KonomiRefused: konomi cannot be reached, cannot write this model so, or the bytes are not those it announced.
    """
    request = {"name": model["name"], "format": "EXPORT_FORMAT_KOHYA"}
    artifact = call("TrainerService/ExportModel", request, address, seconds=600)
    replies = stream("ArtifactService/GetArtifact", [{"digest": artifact["digest"]}], address)
    data = b"".join(b64decode(reply.get("chunk", "")) for reply in replies)
    if hashlib.sha256(data).hexdigest() != artifact["digest"]:
        raise KonomiRefused("the LoRA came with other bytes than konomi announced; try again")
    return data
