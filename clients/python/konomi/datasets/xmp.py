"""XMP beside and inside images: the owner's ratings read, the rater's predictions written in konomi's own namespace.

XMP (ISO 16684-1) is RDF in XML. A sidecar is named `img.png.xmp` (darktable, digiKam, Immich) or `img.xmp` (Adobe). A
prediction goes into konomi's own namespace, and a sidecar another program wrote is not touched. Only where the owner
asks for marks that other programs show (`Marks`: `xmp:Rating`, `xmp:Label`, `dc:subject`) are these written too, into
another program's sidecar as well; what konomi did not write itself stays as it is, and a rating konomi wrote is never
taken for the owner's.
"""

import io
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from konomi.datasets.exif import exif_rating
from konomi.datasets.png_metadata import texts
from konomi.datasets.spelling import decoded
from konomi.files import open_regular, write_atomically

NAMESPACE = "https://konomi.invalid/ns/1.0/"
"""Names this vocabulary; nothing is ever fetched from it."""

RATING = "{http://ns.adobe.com/xap/1.0/}Rating"
LABEL = "{http://ns.adobe.com/xap/1.0/}Label"
SUBJECT = "{http://purl.org/dc/elements/1.1/}subject"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DESCRIPTION, BAG, ITEM = f"{{{RDF}}}Description", f"{{{RDF}}}Bag", f"{{{RDF}}}li"
PNG_KEYWORD = "XML:com.adobe.xmp"
TOOL = "konomi"
MAX_BYTES = 4 * 1024 * 1024
PACKET = re.compile(r"<(x:xmpmeta|x:xapmeta|rdf:RDF)\b.*?</\1\s*>", re.DOTALL)
RAW_PACKET = re.compile(PACKET.pattern.encode(), re.DOTALL)
OWN = re.compile(rb'<x:xmpmeta[^>]*\bx:xmptk="' + TOOL.encode() + rb'[ "]')
TYPED = re.compile(r"<!(?!--|\[CDATA\[)")
NUMBER = re.compile(r"([+-]?\d{1,4})(?:\.0*)?")

WRITTEN = "written_"
"""Begins the names under which konomi notes, in its own namespace, what it wrote into fields that others share."""
PREFIXES = {
    "adobe:ns:meta/": "x",
    RDF: "rdf",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://purl.org/dc/elements/1.1/": "dc",
    NAMESPACE: "konomi",
}

TEMPLATE = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="{tool}">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:konomi="{namespace}"{attributes}/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


@dataclass(frozen=True)
class Rating:
    """What someone said of an image: a grade, no grade, or something that is none.

    Attributes:
        grade: 1 to 5; 0 where they said that it has none (0 stars, or rejected, -1); None where they said nothing.
        odd: a rating that was not understood, as it stands there; empty where there is none.
        broken: the XMP could not be read, so it may hold a rating.
    """

    grade: int | None = None
    odd: str = ""
    broken: bool = False

    @property
    def silent(self) -> bool:
        """Says whether nothing was said, so that others may be asked."""
        return self.grade is None and not self.odd and not self.broken


NO_RATING = Rating()
"""Nobody said anything."""


def sidecars(image: Path) -> tuple[Path, Path]:
    """Returns where an image's sidecar may be: beside its whole name, then beside its stem."""
    return image.with_name(image.name + ".xmp"), image.with_suffix(".xmp")


def rating_beside(name: str, read: Callable[[str, int], bytes | None]) -> Rating:
    """Returns what an image's sidecars say: the first that speaks of it, also where it takes a rating back.

    Args:
        name: the image within its dataset.
        read: returns at most so many bytes of a file by its name, None where there is none.
    """
    stem, dot, ending = name.rpartition(".")
    names = [f"{name}.xmp", f"{stem}.xmp"] if dot and "/" not in ending else [f"{name}.xmp"]
    for sidecar in names:
        data = read(sidecar, MAX_BYTES)
        rating = Rating() if data is None else rating_in_sidecar(data)
        if not rating.silent:
            return rating
    return Rating()


def rating_inside(data: bytes) -> Rating:
    """Returns what an image says of itself: its XMP packet, else the stars Windows wrote into its EXIF."""
    inside = dict(texts(data)).get(PNG_KEYWORD)  # a PNG may keep its packet compressed
    rating = _rating_in(_packet(inside) if inside else _packet_in(data))
    if not rating.silent:
        return rating
    stars = exif_rating(data)
    return Rating() if stars is None else rating_of_value(str(stars))


def rating_in_sidecar(data: bytes) -> Rating:
    """Returns what a sidecar says; one that is no XMP is a rating that was not understood."""
    plain = decoded(data)
    packet = None if plain is None else _packet(plain)
    if packet is None:
        return Rating(broken=bool(data.strip()))
    return _rating_in(packet, sidecar=True)


def rating_of_value(value: str) -> Rating:
    """Returns the rating a text stands for: whole stars of 1 to 5, none at 0 and for what is rejected."""
    match = NUMBER.fullmatch(value.strip())
    if match is None:
        return Rating(odd=value.strip()[:40]) if value.strip() else Rating()
    stars = int(match[1])
    if stars in (-1, 0):
        return Rating(0)
    return Rating(stars) if 1 <= stars <= 5 else Rating(odd=value.strip()[:40])


def _packet(plain: str) -> str | None:
    match = PACKET.search(plain)
    return match.group() if match is not None and len(match.group()) <= MAX_BYTES else None


def _packet_in(data: bytes) -> str | None:
    match = RAW_PACKET.search(data)
    return decoded(match.group()) if match is not None and len(match.group()) <= MAX_BYTES else None


def _rating_in(packet: str | None, *, sidecar: bool = False) -> Rating:
    """Returns the rating in a packet.

    A packet with a document type is not parsed: entities are how XML bites.
    """
    if packet is None:
        return Rating()
    try:
        if TYPED.search(packet):
            raise ElementTree.ParseError("a document type")
        root = ElementTree.fromstring(packet)
    except ElementTree.ParseError:
        return Rating(broken=sidecar or "Rating" in packet)
    own = set(_values(root, _own(WRITTEN + "rating")))  # a prediction is no grade of the owner's
    ratings = [rating_of_value(value) for value in _values(root, RATING) if value not in own]
    said = [rating for rating in ratings if not rating.silent]
    return said[0] if said else Rating()


@dataclass(frozen=True)
class Marks:
    """What other programs show of a prediction; what is empty is not written.

    Attributes:
        rating: stars, "1" to "5".
        label: name of a colour, as Lightroom and darktable know it.
        keyword: one keyword.
    """

    rating: str = ""
    label: str = ""
    keyword: str = ""


NO_MARKS = Marks()
"""Nothing that other programs show."""


def packet_of(prediction: Mapping[str, str]) -> bytes:
    """Returns a sidecar that says a prediction; equal predictions, equal bytes.

    Args:
        prediction: name to value, for example "utility" to "3.41".
    """
    attributes = "".join(f"\n   konomi:{name}={quoteattr(value)}" for name, value in sorted(prediction.items()))
    return TEMPLATE.format(tool=TOOL, namespace=NAMESPACE, attributes=attributes).encode()


def write_prediction(
    image: Path, prediction: Mapping[str, str], marks: Marks = NO_MARKS, *, beside_stem: bool = False
) -> bool:
    """Writes a prediction into a sidecar; the image itself is never written.

    Args:
        image: the image.
        prediction: name to value.
        marks: what other programs are to see; where there is something, it is put into another program's sidecar too.
        beside_stem: into `img.xmp`, as Lightroom names it, instead of `img.png.xmp`.

    Returns:
        False, and nothing is written, where another program's sidecar lies there and there are no marks, or it is none
        that could be written without loss.
    """
    path = sidecars(image)[int(beside_stem)]
    try:
        with open_regular(path) as file:
            there = file.read(MAX_BYTES)
    except FileNotFoundError:
        there = b""
    if there and not OWN.search(there) and marks == NO_MARKS:
        return False
    fresh = packet_of(prediction)
    if marks != NO_MARKS:
        merged = merge(there or fresh, prediction, marks)
        if merged is None:
            return False
        fresh = merged
    if there != fresh:
        write_atomically(path, fresh)
        os.chmod(path, 0o644)
    return True


def merge(sidecar: bytes, prediction: Mapping[str, str], marks: Marks) -> bytes | None:
    """Returns a sidecar with a prediction and marks in it, and everything else in it as it was.

    A rating or a label that is there stays unless konomi wrote it; a keyword is added to those that are there, in place
    of the one konomi added before.

    Returns:
        None where it is no XMP in UTF-8, or one with a document type: nothing can be put into it without loss.
    """
    try:
        plain = sidecar.decode()
        match = PACKET.search(plain)
        if match is None or TYPED.search(plain):
            return None
        for prefix, uri in [*_prefixes(match.group()), *((prefix, uri) for uri, prefix in PREFIXES.items())]:
            ElementTree.register_namespace(prefix, uri)
        parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True, insert_pis=True))
        root = ElementTree.fromstring(match.group(), parser)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError):
        return None
    description = next(root.iter(DESCRIPTION), None)
    if description is None:
        return None
    for name, value in prediction.items():
        _set(root, description, _own(name), value)
    _mark(root, description, RATING, "rating", marks.rating)
    _mark(root, description, LABEL, "label", marks.label)
    _add_keyword(root, description, marks.keyword)
    written = ElementTree.tostring(root, encoding="unicode")
    return (plain[: match.start()] + written + plain[match.end() :]).encode()


def _prefixes(packet: str) -> list[tuple[str, str]]:
    """Returns the prefixes a packet gives to its namespaces, so that it keeps them."""
    found = ElementTree.iterparse(io.StringIO(packet), events=("start-ns",))
    return [(prefix, uri) for _, (prefix, uri) in found if prefix and not re.fullmatch(r"ns\d+", prefix)]


def _own(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _values(root: ElementTree.Element, field: str) -> list[str]:
    """Returns what a packet says of a field, in both forms RDF has: attributes of a description, and elements."""
    found = [value for each in root.iter(DESCRIPTION) if (value := each.get(field)) is not None]
    return found + [each.text or "" for each in root.iter(field)]


def _set(root: ElementTree.Element, description: ElementTree.Element, field: str, value: str) -> None:
    """Gives a field a value wherever it stands, or puts it into a description."""
    holders = [each for each in root.iter(DESCRIPTION) if each.get(field) is not None]
    for element in root.iter(field):
        element.text = value
        holders = holders or [element]
    for each in holders or [description]:
        if each.tag == DESCRIPTION:
            each.set(field, value)


def _mark(root: ElementTree.Element, description: ElementTree.Element, field: str, name: str, value: str) -> None:
    """Writes a field that holds one value, unless somebody else did."""
    noted = _own(WRITTEN + name)
    if value and set(_values(root, field)) <= set(_values(root, noted)):
        _set(root, description, field, value)
        _set(root, description, noted, value)


def _add_keyword(root: ElementTree.Element, description: ElementTree.Element, value: str) -> None:
    """Adds a keyword to those that are there, in place of the one konomi added before."""
    if not value:
        return
    noted = _own(WRITTEN + "keyword")
    before = _values(root, noted)
    subject = next(root.iter(SUBJECT), None)
    if subject is None:
        subject = ElementTree.SubElement(description, SUBJECT)
    bag = next((each for each in subject if isinstance(each.tag, str)), None)
    if bag is None:
        bag = ElementTree.SubElement(subject, BAG)
    items = [item for item in bag if item.tag == ITEM]
    own = next((item for item in items if (item.text or "") in before), None)
    if own is None and any((item.text or "") == value for item in items):
        return  # somebody gave the image this very keyword
    (own if own is not None else ElementTree.SubElement(bag, ITEM)).text = value
    _set(root, description, noted, value)
