"""XMP beside and inside images: the owner's ratings read, the rater's predictions written in konomi's own namespace.

XMP (ISO 16684-1) is RDF in XML. A sidecar is named `img.png.xmp` (darktable, digiKam, Immich) or `img.xmp` (Adobe). A
prediction never goes into `xmp:Rating`, which is the owner's; and a sidecar another program wrote is never touched.
"""

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from konomi.datasets.png_metadata import texts
from konomi.files import write_atomically

NAMESPACE = "https://konomi.invalid/ns/1.0/"
"""Names this vocabulary; nothing is ever fetched from it."""

RATING = "{http://ns.adobe.com/xap/1.0/}Rating"
DESCRIPTION = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
PNG_KEYWORD = "XML:com.adobe.xmp"
TOOL = "konomi"
MAX_BYTES = 4 * 1024 * 1024
PACKET = re.compile(rb"<x:xmpmeta\b.*?</x:xmpmeta>", re.DOTALL)
OWN = re.compile(rb'<x:xmpmeta[^>]*\bx:xmptk="' + TOOL.encode() + rb'[ "]')

TEMPLATE = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="{tool}">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:konomi="{namespace}"{attributes}/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def sidecars(image: Path) -> tuple[Path, Path]:
    """Returns where an image's sidecar may be: beside its whole name, then beside its stem."""
    return image.with_name(image.name + ".xmp"), image.with_suffix(".xmp")


def rating_of(image: Path, data: bytes) -> int | None:
    """Returns the owner's rating of an image, 1 to 5: from its sidecars, else from the packet inside it.

    0 (not rated) and -1 (rejected) are no grade, and so is a rating that is not a whole number.
    """
    for path in sidecars(image):
        try:
            rating = read_rating(path.read_bytes()[:MAX_BYTES])
        except OSError:
            continue
        if rating is not None:
            return rating
    inside = dict(texts(data)).get(PNG_KEYWORD)  # a PNG may keep its packet compressed
    return read_rating(inside.encode() if inside else data)


def read_rating(data: bytes) -> int | None:
    """Returns the rating of the first XMP packet in some bytes, 1 to 5; None where there is none.

    A packet with a document type is not parsed: entities are how XML bites.
    """
    packet = PACKET.search(data)
    if packet is None or len(packet.group()) > MAX_BYTES or b"<!" in packet.group():
        return None
    try:
        root = ElementTree.fromstring(packet.group())
    except ElementTree.ParseError:
        return None
    ratings = [value for element in root.iter(DESCRIPTION) if (value := element.get(RATING)) is not None]
    ratings += [element.text or "" for element in root.iter(RATING)]
    return next(
        (int(value) for value in (text.strip() for text in ratings) if value in {"1", "2", "3", "4", "5"}), None
    )


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
        there = path.read_bytes()[:MAX_BYTES]
    except FileNotFoundError:
        there = b""
    if there and not OWN.search(there):
        return False
    if there != packet_of(prediction):
        write_atomically(path, packet_of(prediction))
        os.chmod(path, 0o644)
    return True
