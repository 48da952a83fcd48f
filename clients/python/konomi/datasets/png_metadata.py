"""What an image says about its making: prompt and seed from a PNG's texts, from EXIF, or hidden in the pixels.

Read with the standard library alone, since the thin client has no Pillow; only ComfyUI's graphs need sd-parsers, of the
extra `files`. Sizes are capped, a malformed file says nothing, and what is there and not understood is told.
"""

import importlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from konomi.datasets.exif import exif_texts
from konomi.datasets.prompts import (
    MAX_PROMPT_BYTES,
    Said,
    clean,
    model_name,
    numbers_of,
    said_by,
    said_by_infotext,
    said_by_konomi,
    said_by_record,
    with_seed,
)
from konomi.datasets.spelling import decoded
from konomi.datasets.stealth import stealth_text
from konomi.host import extras

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 4 * 1024 * 1024
MAX_TEXTS_BYTES = 32 * 1024 * 1024
"""Bytes of all texts of an image together: ten thousand packed ones would fill the memory."""
MAX_CHUNKS = 10_000

KEYS = ("parameters", "prompt", "Comment", "invokeai_metadata", "sd-metadata", "Dream", "dream", "workflow")
"""Keywords tools keep records under, asked before any other."""
PLAIN = frozenset({"parameters", "prompt", "Dream", "dream"})
"""Keywords under which text that is no record is a prompt."""

UNDERSTOOD, NEEDS_EXTRA, STRANGE, UNDECODABLE = "", "PROMPT_NEEDS_EXTRA", "PROMPT_UNKNOWN", "PROMPT_UNDECODABLE"


@dataclass(frozen=True)
class Origin:
    """Prompt and seed an image was made from, as far as it says.

    Attributes:
        prompt: the prompt; empty where it says none.
        seed: the seed; None where it says none.
        starter: the starter model made it.
        unread: reason why a prompt that is there was not read; empty where none was passed over.
        odd_seed: a seed that is there and cannot be one, as it stands there.
        cut: the prompt is longer than the rater takes, and was cut.
        model: the model that made it elsewhere, as it says; empty where it names none.
        numbers: steps, guidance scale and the sampler, where it says them.
    """

    prompt: str = ""
    seed: int | None = None
    starter: bool = False
    unread: str = UNDERSTOOD
    odd_seed: str = ""
    cut: bool = False
    model: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


def origin_of(data: bytes) -> Origin:
    """Returns what an image says about its making; nothing of it is trusted beyond being text."""
    chunks = dict(texts(data))
    if "konomi" in chunks:
        said = said_by_konomi(chunks["konomi"] or "")
        if said.prompt is not None or said.starter:
            return _origin(said)
    heard = list(_said(data, chunks))
    speaker = next((said for said in heard if said.prompt is not None), None)
    if speaker is not None:
        return _origin(speaker)
    graph = next((said.graph for said in heard if said.graph is not None), None)
    if graph is not None:
        return _of_graph(graph)
    if any(said.strange for said in heard):
        return Origin(unread=STRANGE)
    return Origin(unread=UNDECODABLE if None in chunks.values() else UNDERSTOOD)


def read_infotext(infotext: str) -> Origin:
    """Returns prompt and seed of an infotext as A1111 writes it."""
    return _origin(said_by_infotext(infotext))


def texts(data: bytes) -> Iterator[tuple[str, str | None]]:
    """Yields keyword and text of every text chunk (PNG specification, 11.3.3); nothing for what is no PNG.

    A text is None where it is larger than `MAX_TEXT_BYTES`, torn, or in no encoding that is known.
    """
    if not data.startswith(SIGNATURE):
        return
    position, room = len(SIGNATURE), MAX_TEXTS_BYTES
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            return
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            body = data[position + 8 : position + 8 + min(length, MAX_TEXT_BYTES)]
            keyword, separator, rest = body.partition(b"\0")
            if separator:
                text = _text(kind, rest) if length <= MAX_TEXT_BYTES and room > 0 else None
                room -= len(text or "")
                yield keyword.decode("latin-1"), text
        position += 12 + length


def _said(data: bytes, chunks: Mapping[str, str | None]) -> Iterator[Said]:
    """Yields what each text of an image says, those that are likeliest to speak of its making first."""
    if chunks.get("Software") and chunks.get("Comment"):
        yield said_by_record({key: value for key, value in chunks.items() if value is not None})
    for key in [*KEYS, *(key for key in chunks if key not in KEYS)]:
        text = chunks.get(key)
        if text and key != "konomi":
            said = said_by(text, plain=key in PLAIN)
            yield said if key in KEYS or not said.strange else Said()
    for text in exif_texts(data).values():
        yield said_by(text) if text is not None else Said(strange=True)
    hidden = None if chunks.get("parameters") else stealth_text(data)
    if hidden is not None:
        yield said_by(hidden, plain=True) if hidden else Said(strange=True)


def _origin(said: Said) -> Origin:
    prompt = said.prompt or ""
    cut = len(prompt.strip().encode("utf-8", "ignore")) > MAX_PROMPT_BYTES
    return Origin(
        clean(prompt),
        said.seed,
        said.starter,
        odd_seed=said.odd_seed,
        cut=cut,
        model=said.model,
        numbers=said.numbers,
    )


def _text(kind: bytes, rest: bytes) -> str | None:
    if kind == b"tEXt":
        return _old(rest)
    if kind == b"zTXt":
        packed = _inflate(rest[1:])
        return None if packed is None else _old(packed)
    compressed, _, rest = rest[:1], rest[1:2], rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, _, content = rest.partition(b"\0")
    plain = _inflate(content) if compressed == b"\1" else content
    return None if plain is None else decoded(plain)


def _old(plain: bytes) -> str:
    """Returns the text of a chunk that should be Latin-1; many tools write UTF-8 there, and Latin-1 never looks so."""
    try:
        return plain.decode("utf-8")
    except UnicodeDecodeError:
        return plain.decode("latin-1")


def _inflate(packed: bytes) -> bytes | None:
    inflator = zlib.decompressobj()
    try:
        plain = inflator.decompress(packed, MAX_TEXT_BYTES)
    except zlib.error:
        return None
    return plain if inflator.eof else None


FAULTS = (
    OSError,
    ValueError,
    SyntaxError,
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What sd-parsers raises on graphs that are not what they seem, beside its own error."""


def _of_graph(graph: Mapping[str, Any]) -> Origin:
    """Returns prompt and seed of a graph as ComfyUI computed it, whether or not its drawing stands beside it.

    sd-parsers follows the lines of the drawing; they are taken from the graph, which holds them all.
    """
    if extras.missing("files"):
        return Origin(unread=NEEDS_EXTRA)
    parsers = importlib.import_module("sd_parsers.parsers")
    unreadable = importlib.import_module("sd_parsers.exceptions").ParserError
    try:
        nodes = {node: {**content, "inputs": _with_values(content["inputs"], graph)} for node, content in graph.items()}
        links = [
            [0, link[0], link[1], node, 0, name.upper()]
            for node, content in nodes.items()
            for name, link in content["inputs"].items()
            if isinstance(link, list) and len(link) == 2
        ]
        metadata = parsers.ComfyUIParser().parse({"prompt": nodes, "workflow": {"links": links}})
        return replace(_of_samplers(metadata), model=_model_of(graph), numbers=_numbers_of(graph))
    except (*FAULTS, unreadable):
        return Origin(unread=STRANGE)


def _model_of(graph: Mapping[str, Any]) -> str:
    """Returns the model of a graph; empty where it loads none, or several, of which any may have made the image."""
    inputs = [node["inputs"] for node in graph.values() if isinstance(node.get("inputs"), dict)]
    names = {model_name(one[key]) for one in inputs for key in ("ckpt_name", "unet_name") if key in one}
    return names.pop() if len(names) == 1 else ""


def _numbers_of(graph: Mapping[str, Any]) -> Mapping[str, float]:
    """Returns steps, guidance scale and sampler of a graph; of what several nodes say differently nothing is known.

    "scheduler" is how ComfyUI spaces the steps, no sampler; a number that comes from another node is that node's.
    """
    found: dict[str, set[object]] = {}
    for node in graph.values():
        inputs = node["inputs"] if isinstance(node.get("inputs"), dict) else {}
        for name in ("steps", "cfg", "sampler_name"):
            if isinstance(inputs.get(name), int | float | str):
                found.setdefault(name, set()).add(inputs[name])
    return numbers_of({name: values.pop() for name, values in found.items() if len(values) == 1})


def _with_values(inputs: Mapping[str, Any], graph: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a node's inputs, a seed that comes from a node of its own put in its place."""
    result = dict(inputs)
    for name in ("seed", "noise_seed"):
        link = inputs.get(name)
        if isinstance(link, list) and link:
            source = graph[link[0]]["inputs"]
            result[name] = next((source[key] for key in ("seed", "noise_seed", "value") if key in source), None)
    return result


def _of_samplers(metadata: Any) -> Origin:
    parameters: dict[str, object] = {}
    for sampler in metadata.samplers:
        parameters = {**{str(name).lower(): value for name, value in sampler.parameters.items()}, **parameters}
    seed = next((parameters[name] for name in ("seed", "noise_seed") if name in parameters), None)
    prompt = str(metadata.full_prompt)
    return _origin(with_seed(prompt, seed)) if metadata.samplers and prompt else Origin(unread=STRANGE)
