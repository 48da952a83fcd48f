"""XMP beside and inside images: the owner's ratings read, the rater's predictions written in konomi's own namespace.

XMP (ISO 16684-1) is RDF in XML. A sidecar is named `img.png.xmp` (darktable, digiKam, Immich) or `img.xmp` (Adobe). A
prediction never goes into `xmp:Rating`, which is the owner's; and a sidecar another program wrote is never touched.
"""

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
DESCRIPTION = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
PNG_KEYWORD = "XML:com.adobe.xmp"
TOOL = "konomi"
MAX_BYTES = 4 * 1024 * 1024
PACKET = re.compile(r"<(x:xmpmeta|x:xapmeta|rdf:RDF)\b.*?</\1\s*>", re.DOTALL)
RAW_PACKET = re.compile(PACKET.pattern.encode(), re.DOTALL)
OWN = re.compile(rb'<x:xmpmeta[^>]*\bx:xmptk="' + TOOL.encode() + rb'[ "]')
TYPED = re.compile(r"<!(?!--|\[CDATA\[)")
NUMBER = re.compile(r"([+-]?\d{1,4})(?:\.0*)?")

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
    ratings = [value for element in root.iter(DESCRIPTION) if (value := element.get(RATING)) is not None]
    ratings += [element.text or "" for element in root.iter(RATING)]
    said = [rating for value in ratings if not (rating := rating_of_value(value)).silent]
    return said[0] if said else Rating()


def packet_of(prediction: Mapping[str, str]) -> bytes:
    """Returns a sidecar that says a prediction; equal predictions, equal bytes.

    Args:
        prediction: name to value, for example "utility" to "3.41".
    """
    attributes = "".join(f"\n   konomi:{name}={quoteattr(value)}" for name, value in sorted(prediction.items()))
    return TEMPLATE.format(tool=TOOL, namespace=NAMESPACE, attributes=attributes).encode()


def write_prediction(image: Path, prediction: Mapping[str, str]) -> bool:
    """Writes a prediction into the sidecar `img.png.xmp`; the image itself is never written.

    Returns:
        False, and nothing is written, where another program's sidecar lies there.
    """
    path = sidecars(image)[0]
    try:
        with open_regular(path) as file:
            there = file.read(MAX_BYTES)
    except FileNotFoundError:
        there = b""
    if there and not OWN.search(there):
        return False
    if there != packet_of(prediction):
        write_atomically(path, packet_of(prediction))
        os.chmod(path, 0o644)
    return True
