"""What images of other programs say of their making, recognised by what it is; what is not understood is told."""

import gzip
import io
import json
import struct
import zlib
from dataclasses import replace

import pytest
from PIL import Image, PngImagePlugin

from konomi.datasets import png_metadata
from konomi.datasets.exif import exif_rating, exif_texts
from konomi.datasets.png_metadata import STRANGE, UNDECODABLE, Origin
from konomi.datasets.prompts import MAX_PROMPT_BYTES, seed_in
from konomi.datasets.stealth import stealth_text
from konomi.datasets.xmp import Rating, rating_inside

INFOTEXT = "a river at night\nNegative prompt: blur\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 102, Size: 512x512"
RIVER = Origin("a river at night", 102)
NOVELAI = {
    "Description": "a river at night",
    "Software": "NovelAI",
    "Comment": json.dumps({"prompt": "a river at night", "seed": 102, "steps": 28, "uc": ""}),
}
COMFYUI = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 102, "steps": 20, "cfg": 8, "sampler_name": "euler", "positive": ["6", 0]},
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a river at night", "clip": ["4", 1]}},
    "7": {"class_type": "Seed", "inputs": {"seed": 102}},
}


def origin_of(data: bytes) -> Origin:
    """Returns what an image says of prompt and seed; which model made it and how is asked in test_models.py."""
    return replace(png_metadata.origin_of(data), model="", numbers={})


def png(mode: str = "RGB", **texts: str) -> bytes:
    info, out = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, value in texts.items():
        info.add_text(name.replace("_dash_", "-"), value)
    Image.new(mode, (64, 64)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def chunked(kind: bytes, body: bytes) -> bytes:
    data = png()
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


def with_exif(kind: str, tags: dict[int, object], image: dict[int, object] | None = None) -> bytes:
    exif, out = Image.Exif(), io.BytesIO()
    exif.get_ifd(0x8769).update(tags)
    exif.update(image or {})
    Image.new("RGB", (8, 8)).save(out, kind, exif=exif.tobytes())
    return out.getvalue()


RECORDS = {
    "fooocus": {"prompt": "a river at night", "negative_prompt": "", "seed": "102", "metadata_scheme": "fooocus"},
    "swarmui": {"sui_image_params": {"prompt": "a river at night", "seed": 102, "swarm_version": "0.9"}},
    "invokeai": {"positive_prompt": "a river at night", "seed": 102, "steps": 30},
    "sd-metadata": {"image": {"prompt": [{"prompt": "a river at night", "weight": 1.0}], "seed": 102}},
    "draw things": {"c": "a river at night", "seed": 102, "steps": 4},
    "easy diffusion": {"prompt": "a river at night", "seed": 102.0},
    "comfyui": COMFYUI,
    "comfyui, whole": {"prompt": COMFYUI, "workflow": {"nodes": [], "links": []}},
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
@pytest.mark.parametrize("key", ["parameters", "prompt", "Comment", "sd_dash_metadata", "whatever"])
def test_a_record_is_recognised_by_what_it_is_whatever_key_it_stands_under(record, key):
    assert origin_of(png(**{key: json.dumps(record, indent=2)})) == RIVER


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_records_in_exif_are_read_as_well(record):
    data = with_exif("JPEG", {0x9286: json.dumps(record).encode()})
    assert origin_of(data) == RIVER


def test_a_seed_from_a_node_of_its_own_and_a_graph_without_its_drawing():
    graph = json.loads(json.dumps(COMFYUI))
    graph["3"]["inputs"]["seed"] = ["7", 0]
    assert origin_of(png(prompt=json.dumps(graph))) == RIVER


@pytest.mark.parametrize(
    ("texts", "prompt"),
    [
        ({"parameters": "only words"}, "only words"),
        ({"parameters": "{{weighted}}, cat"}, "{{weighted}}, cat"),
        ({"parameters": "[[less]], cat"}, "[[less]], cat"),
        ({"parameters": '"quoted", cat'}, '"quoted", cat'),
        ({"parameters": "12345"}, "12345"),
        ({"Dream": '"a river" -s 50 -S 102 -W 512'}, "a river"),
        ({"Comment": "Created with GIMP"}, ""),
        ({"Description": "a photo"}, ""),
    ],
)
def test_words_are_prompts_where_tools_write_prompts(texts, prompt):
    origin = origin_of(png(**texts))
    assert (origin.prompt, origin.unread) == (prompt, "")


@pytest.mark.parametrize(
    "texts",
    [
        {"parameters": json.dumps({"unheard": "of", "nested": {"prompt": "x"}})},
        {"parameters": '{"prompt": "cut off in the mid'},
        {"prompt": json.dumps([{"prompt": "a list"}])},
        {"workflow": json.dumps({"nodes": [], "links": []})},
        {"prompt": json.dumps({"1": {"class_type": "SaveImage", "inputs": {}}})},
    ],
)
def test_a_record_that_is_not_understood_is_no_prompt_and_is_told(texts):
    assert origin_of(png(**texts)) == Origin(unread=STRANGE)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"zTXt", b"parameters\0\0" + zlib.compress(INFOTEXT.encode())[:-9]),
        (b"iTXt", b"parameters\0\0\0\0\0\xff\xff\xff"),
        (b"zTXt", b"parameters\0\0" + zlib.compress(bytes(5 * 1024 * 1024))),
    ],
)
def test_a_text_that_cannot_be_decoded_is_told(kind, body):
    assert origin_of(chunked(kind, body)).unread == UNDECODABLE


def test_utf_8_where_latin_1_should_stand_is_read_as_utf_8():
    assert origin_of(chunked(b"tEXt", "parameters\0大きな木".encode())).prompt == "大きな木"
    assert origin_of(chunked(b"tEXt", "parameters\0été".encode("latin-1"))).prompt == "été"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + INFOTEXT.encode("utf-16-be"),
        b"UNICODE\0" + INFOTEXT.encode("utf-16-le"),
        b"UNICODE\0" + INFOTEXT.encode("utf-16"),
        b"UNICODE\0" + INFOTEXT.encode(),
        b"ASCII\0\0\0" + INFOTEXT.encode(),
        bytes(8) + INFOTEXT.encode() + bytes(20),
        INFOTEXT.encode(),
    ],
    ids=["be", "le", "mark", "utf-8 as unicode", "ascii", "undefined", "bare"],
)
def test_a_user_comment_in_every_way_it_is_written(kind, comment):
    assert origin_of(with_exif(kind, {0x9286: comment})) == RIVER


def test_other_texts_of_exif_are_read_and_a_cameras_words_are_no_prompt():
    assert origin_of(with_exif("JPEG", {}, {0x010E: INFOTEXT})) == RIVER
    assert origin_of(with_exif("JPEG", {}, {0x9C9C: INFOTEXT.encode("utf-16-le") + b"\0\0"})) == RIVER
    camera = with_exif("JPEG", {0x9286: b"ASCII\0\0\0Screenshot"}, {0x010E: "OLYMPUS DIGITAL CAMERA"})
    assert exif_texts(camera) == {"ImageDescription": "OLYMPUS DIGITAL CAMERA", "UserComment": "Screenshot"}
    assert origin_of(camera) == Origin()
    broken = with_exif("JPEG", {0x9286: b"UNICODE\0\xd8\xd8\xd8\xd8"})
    assert origin_of(broken).unread == STRANGE


@pytest.mark.parametrize(("stars", "said"), [(5, Rating(5)), (0, Rating(0)), (9, Rating(odd="9"))])
def test_the_stars_windows_writes(stars, said):
    data = with_exif("JPEG", {}, {0x4746: stars})
    assert exif_rating(data) == stars
    assert rating_inside(data) == said


def hidden(text: str, *, mark: str, packed: bool, size: tuple[int, int] = (96, 96)) -> bytes:
    """A PNG with a text in its lowest bits, column by column, as NovelAI and the web UIs' extension hide it."""
    body = gzip.compress(text.encode()) if packed else text.encode()
    plain = mark.encode() + struct.pack(">I", len(body) * 8) + body
    bits = [byte >> place & 1 for byte in plain for place in range(7, -1, -1)]
    image = Image.effect_noise(size, 80).convert("RGBA" if "png" in mark else "RGB")
    samples = (3,) if "png" in mark else (0, 1, 2)
    pixels = image.load()
    places = [(x, y, sample) for x in range(size[0]) for y in range(size[1]) for sample in samples]
    assert len(bits) <= len(places)
    for (x, y, sample), bit in zip(places, bits, strict=False):
        values = list(pixels[x, y])
        values[sample] = values[sample] & 254 | bit
        pixels[x, y] = tuple(values)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("size", [(96, 96), (300, 20), (9, 700)])
@pytest.mark.parametrize(
    ("mark", "packed"),
    [("stealth_pngcomp", True), ("stealth_pnginfo", False), ("stealth_rgbcomp", True), ("stealth_rgbinfo", False)],
)
def test_a_record_hidden_in_the_pixels(mark, packed, size):
    assert origin_of(hidden(json.dumps(NOVELAI), mark=mark, packed=packed, size=size)) == RIVER
    assert origin_of(hidden(INFOTEXT, mark=mark, packed=packed, size=size)) == RIVER


def test_pixels_that_hide_nothing_and_a_hidden_record_that_is_damaged():
    assert stealth_text(png("RGBA")) is stealth_text(png()) is stealth_text(b"") is None
    whole = hidden(INFOTEXT, mark="stealth_pngcomp", packed=False)  # no gzip behind a mark that says so
    assert stealth_text(whole) == ""
    assert origin_of(whole).unread == STRANGE
    assert stealth_text(whole[:120]) is None


@pytest.mark.parametrize(
    ("value", "seed"),
    [
        (0, 0),
        ("0", 0),
        (5, 5),
        ("5", 5),
        (5.0, 5),
        (" 7 ", 7),
        (-1, None),
        (None, None),
        ("", None),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_seeds_of_every_type(value, seed):
    assert seed_in(value) == seed


@pytest.mark.parametrize(
    "value", [True, 2**63, "18446744073709551615", 1.5, "abc", [1], {}, float("nan"), float("inf")]
)
def test_what_is_no_seed(value):
    with pytest.raises((ValueError, OverflowError)):
        seed_in(value)


def test_a_seed_of_nothing_is_not_a_seed_of_zero_and_an_odd_one_is_kept_to_tell():
    assert origin_of(png(parameters="x\nSteps: 2, Seed: 0, Size: 8x8")).seed == 0
    assert origin_of(png(parameters="x\nSteps: 2, Size: 8x8")).seed is None
    assert origin_of(png(parameters="x\nSteps: 2, Seed: 9223372036854775807, Size: 8x8")).seed == 2**63 - 1
    large = origin_of(png(parameters="x\nSteps: 2, Seed: 18446744073709551615, Size: 8x8"))
    assert (large.seed, large.odd_seed) == (None, "18446744073709551615")


def test_a_prompt_that_is_cut_says_so():
    origin = origin_of(png(parameters="好" * 2000))
    assert origin.cut and len(origin.prompt.encode()) <= MAX_PROMPT_BYTES
    assert not origin_of(png(parameters="好" * 1000)).cut
