"""Marks other programs show: written beside what others wrote, never over it, and read back by exiftool."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from konomi.datasets.xmp import Marks, Rating, merge, rating_in_sidecar, sidecars, write_prediction

EXIFTOOL = shutil.which("exiftool")
needs_exiftool = pytest.mark.skipif(EXIFTOOL is None, reason="exiftool is not installed (libimage-exiftool-perl)")
PREDICTION = {"grade": "SSR", "utility": "3.9000"}
ALL = Marks(rating="4", label="Blue", keyword="konomi SSR")

# As darktable 4.2 writes it, shortened: the history and the mask are its own, the tags are the owner's.
DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <!-- kept too -->
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:darktable="http://darktable.sf.net/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
   {attributes}
   darktable:auto_presets_applied="1">
   <darktable:history><rdf:Seq><rdf:li darktable:num="0" darktable:operation="exposure"/></rdf:Seq></darktable:history>
   {elements}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
SUBJECT = "<dc:subject><rdf:{kind}><rdf:li>cat</rdf:li><rdf:li>summer &amp; sea</rdf:li></rdf:{kind}></dc:subject>"


def exiftool(*arguments: str) -> dict:
    done = subprocess.run(
        [EXIFTOOL, "-j", "-a", "-G1", *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert not done.stderr.strip(), done.stderr
    return json.loads(done.stdout)[0]


def foreign(attributes: str = "", elements: str = "") -> bytes:
    return DARKTABLE.format(attributes=attributes, elements=elements).encode()


@needs_exiftool
@pytest.mark.parametrize("stem", [False, True])
def test_exiftool_reads_the_marks_of_both_sidecar_names(tmp_path, stem):
    image = tmp_path / "猫.jpg"
    assert write_prediction(image, PREDICTION, ALL, beside_stem=stem)
    (there,) = tmp_path.iterdir()
    assert there == sidecars(image)[stem]
    said = exiftool("-validate", "-warning", str(there))
    assert said["ExifTool:Validate"] == "OK" and "ExifTool:Warning" not in said
    said = exiftool(str(there))
    assert (said["XMP-xmp:Rating"], said["XMP-xmp:Label"], said["XMP-dc:Subject"]) == (4, "Blue", "konomi SSR")
    assert said["XMP-konomi:Grade"] == "SSR"


@needs_exiftool
def test_exiftool_still_reads_what_darktable_wrote_and_what_it_writes_itself_is_kept(tmp_path):
    image, sidecar = tmp_path / "a.png", tmp_path / "a.png.xmp"
    sidecar.write_bytes(foreign('xmp:Rating="2"', SUBJECT.format(kind="Seq")))
    before = exiftool(str(sidecar))
    assert write_prediction(image, PREDICTION, ALL)
    after = exiftool(str(sidecar))
    theirs = {name: value for name, value in before.items() if name.startswith("XMP-")}
    assert theirs.pop("XMP-dc:Subject") == ["cat", "summer & sea"]
    assert theirs.pop("XMP-xmp:Rating") == 2
    assert theirs.items() <= after.items() and "XMP-darktable:HistoryOperation" in theirs
    assert after["XMP-dc:Subject"] == ["cat", "summer & sea", "konomi SSR"]
    assert (after["XMP-xmp:Rating"], after["XMP-xmp:Label"]) == (2, "Blue")
    subprocess.run(
        [EXIFTOOL, "-q", "-overwrite_original", "-XMP-xmp:Label=Green", str(sidecar)], check=True, timeout=60
    )
    assert write_prediction(image, PREDICTION | {"grade": "N"}, Marks("1", "Red", "konomi N"))
    last = exiftool(str(sidecar))
    assert last["XMP-xmp:Label"] == "Green", "somebody chose this colour"
    assert last["XMP-dc:Subject"] == ["cat", "summer & sea", "konomi N"] and last["XMP-konomi:Grade"] == "N"


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [
        ('xmp:Rating="0" xmp:Label="Select"', ""),
        ("", "<xmp:Rating>-1</xmp:Rating><xmp:Label>Select</xmp:Label>"),
        ('xmp:Rating="5" xmp:Label=""', ""),
    ],
)
def test_a_rating_and_a_label_of_somebody_else_stay_as_they_are(attributes, elements):
    sidecar = foreign(attributes, elements)
    merged = merge(sidecar, PREDICTION, ALL)
    assert rating_in_sidecar(merged) == rating_in_sidecar(sidecar)
    assert b"Blue" not in merged and b"konomi SSR" in merged
    assert b"<!-- kept too -->" in merged and b'darktable:operation="exposure"' in merged and b"ns0" not in merged


def test_a_rating_konomi_wrote_is_nobodys_grade_until_somebody_changes_it(tmp_path):
    image = tmp_path / "a.png"
    write_prediction(image, PREDICTION, ALL)
    data = (tmp_path / "a.png.xmp").read_bytes()
    assert b'xmp:Rating="4"' in data and rating_in_sidecar(data) == Rating()
    assert rating_in_sidecar(data.replace(b'xmp:Rating="4"', b'xmp:Rating="2"')) == Rating(2)
    write_prediction(image, PREDICTION, Marks(rating="1"))
    again = (tmp_path / "a.png.xmp").read_bytes()
    assert b'xmp:Rating="1"' in again and b"Blue" in again and rating_in_sidecar(again) == Rating()
    assert merge(again, PREDICTION, Marks(rating="1")) == again, "equal marks, equal bytes"


@pytest.mark.parametrize(
    "sidecar",
    [
        b"no xmp",
        foreign().replace(b"<?xml", b"\xff<?xml"),
        foreign().decode().encode("utf-16"),
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + foreign(),
        foreign().replace(b"</rdf:RDF>", b""),
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>',
    ],
)
def test_what_cannot_be_written_without_loss_is_left_as_it_is(tmp_path, sidecar):
    (tmp_path / "a.png.xmp").write_bytes(sidecar)
    assert not write_prediction(tmp_path / "a.png", PREDICTION, ALL)
    assert (tmp_path / "a.png.xmp").read_bytes() == sidecar


def test_score_writes_marks_where_they_are_asked_for(live, tmp_path, png):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for shade in range(3):
        (pictures / f"{shade}.png").write_bytes(png(shade))
    (pictures / "2.png.xmp").write_bytes(foreign('xmp:Rating="5"'))
    marks = ("--as", "rating", "--as", "label", "--as", "keyword")
    said = live.json("score", str(pictures), "--write", "xmp", *marks, "--top", "2")
    bounds = [entry["lower_bound"] for entry in said["scores"]]
    assert len(bounds) == 2 and bounds == sorted(bounds, reverse=True)
    written = sorted(Path(entry["path"]).name for entry in said["scores"])
    there = sorted(p.name.removesuffix(".xmp") for p in pictures.glob("*.xmp") if b"konomi SR" in p.read_bytes())
    assert there == written
    live.json("score", str(pictures), "--write", "xmp", "--as", "label", "--for", "lightroom")
    assert sorted(path.name for path in pictures.glob("?.xmp")) == ["0.xmp", "1.xmp", "2.xmp"]
    assert (
        b'xmp:Label="Green"' in (pictures / "0.xmp").read_bytes() and b"Rating" not in (pictures / "0.xmp").read_bytes()
    )
    assert live.json("import", str(pictures))["rated"] == 1, "only the five stars somebody gave are a grade"
    done = live.run("score", str(pictures), "--as", "label")
    assert (done.returncode, "needs --write xmp" in done.stderr) == (2, True)
