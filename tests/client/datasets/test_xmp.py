"""XMP: ratings read from both sidecar names and from inside images, predictions written where nobody else wrote."""

import io
import json
import os
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image, PngImagePlugin

from konomi.datasets.xmp import (
    NAMESPACE,
    Rating,
    packet_of,
    rating_beside,
    rating_in_sidecar,
    rating_inside,
    sidecars,
    write_prediction,
)

DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="{rating}"/>
 </rdf:RDF>
</x:xmpmeta>
"""
ELEMENT = DARKTABLE.replace(' xmp:Rating="{rating}"/>', "><xmp:Rating>{rating}</xmp:Rating></rdf:Description>")
PREDICTION = {"grade": "SSR", "utility": "3.9000", "rater_version": "tastes/default/raterVersions/3"}


@pytest.mark.parametrize("form", [DARKTABLE, ELEMENT])
@pytest.mark.parametrize(
    ("rating", "said"),
    [
        ("1", Rating(1)),
        ("5", Rating(5)),
        (" 4.0 ", Rating(4)),
        ("0", Rating(0)),
        ("-1", Rating(0)),
        ("", Rating()),
        ("3.5", Rating(odd="3.5")),
        ("6", Rating(odd="6")),
        ("many", Rating(odd="many")),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_rating_of_one_to_five_is_a_grade_and_nothing_else_is(form, rating, said, encoding):
    assert rating_in_sidecar(form.format(rating=rating).encode(encoding)) == said


@pytest.mark.parametrize("where", [0, 1])
def test_both_sidecar_names_are_read(tmp_path, where):
    image = tmp_path / "img.png"
    assert sidecars(image) == (tmp_path / "img.png.xmp", tmp_path / "img.xmp")
    there = {sidecars(image)[where].name: DARKTABLE.format(rating=4).encode()}
    assert rating_beside(image.name, lambda name, limit: there.get(name)) == Rating(4)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_rating_inside_an_image_as_pillow_writes_it_is_read(kind):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, kind, xmp=DARKTABLE.format(rating=2).encode())
    assert rating_inside(out.getvalue()) == Rating(2)


@pytest.mark.parametrize("packed", [False, True])
def test_a_rating_inside_a_png_is_read_packed_or_not(packed):
    words, out = PngImagePlugin.PngInfo(), io.BytesIO()
    words.add_itxt("XML:com.adobe.xmp", DARKTABLE.format(rating=2), zip=packed)
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=words)
    assert rating_inside(out.getvalue()) == Rating(2)


@pytest.mark.parametrize(
    "hostile",
    [
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!DOCTYPE a [<!ENTITY b "1">]></x:xmpmeta>',
        b"<x:xmpmeta><unclosed></x:xmpmeta>",
        b"<x:xmpmeta " + b"a" * 100_000,
        b"",
    ],
)
def test_hostile_xmp_says_nothing(hostile):
    assert rating_in_sidecar(hostile).grade is None and rating_inside(hostile).grade is None
    assert rating_in_sidecar(hostile).broken == bool(hostile), "an unreadable sidecar is told, not taken for silence"


def test_a_prediction_is_written_beside_the_image_and_is_no_rating(tmp_path):
    image = tmp_path / "img.png"
    image.write_bytes(b"picture")
    assert write_prediction(image, PREDICTION)
    data = (tmp_path / "img.png.xmp").read_bytes()
    assert data == packet_of(PREDICTION)
    assert b"Rating=" not in data
    assert rating_in_sidecar(data) == Rating()
    (description,) = ElementTree.fromstring(data).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    said = {name.removeprefix(f"{{{NAMESPACE}}}"): value for name, value in description.attrib.items()}
    assert PREDICTION.items() <= said.items()
    assert image.read_bytes() == b"picture"
    assert write_prediction(image, PREDICTION | {"grade": "N"}), "its own sidecar is written anew"
    assert b"SSR" not in (tmp_path / "img.png.xmp").read_bytes()


def test_another_programs_sidecar_is_never_touched(tmp_path):
    image, words = tmp_path / "img.png", DARKTABLE.format(rating=3)
    sidecars(image)[0].write_text(words)
    assert not write_prediction(image, PREDICTION)
    assert sidecars(image)[0].read_text() == words


def test_values_are_text_never_markup(tmp_path):
    data = packet_of({"grade": '"><evil/>&'})
    assert b"<evil/>" not in data
    ElementTree.fromstring(data)


def test_score_writes_sidecars_and_import_reads_ratings(live, tmp_path, png):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for shade in range(3):
        (pictures / f"{shade}.png").write_bytes(png(shade))
    theirs = DARKTABLE.format(rating=5)
    (pictures / "2.png.xmp").write_text(theirs)
    before = {path.name: path.read_bytes() for path in pictures.glob("*.png")}
    said = live.json("import", str(pictures))
    assert (said["added"], said["rated"]) == (3, 1)
    assert live.json("import", str(pictures))["rated"] == 0, "a known image keeps its grade"
    done = live.run("score", str(pictures), "--write", "xmp", "--json")
    assert done.returncode == 0, done.stderr
    assert "1 image has a sidecar of another program" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["scores"]
    assert b"konomi:utility=" in (pictures / "0.png.xmp").read_bytes()
    assert (pictures / "2.png.xmp").read_text() == theirs
    assert {path.name: path.read_bytes() for path in pictures.glob("*.png")} == before
    assert os.stat(pictures / "0.png.xmp").st_mode & 0o777 == 0o644
