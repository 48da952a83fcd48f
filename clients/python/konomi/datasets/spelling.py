"""How text from elsewhere is spelt: bytes into characters without loss, and two spellings of one name recognised.

Files come from Windows ("Unicode" is UTF-16, "ANSI" in Japan is cp932), from macOS (names decomposed, NFD) and from the
web (a byte order mark before UTF-8). Whoever asks gets the text that was written, or None: never a guess with holes.
"""

import codecs
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from konomi.files import open_regular
from konomi.i18n.catalogue import text

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of its own
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order mark to the encoding it announces."""

KANA = re.compile(r"[\u3041-\u3096\u30a1-\u30fa]")
HALFWIDTH = re.compile(r"[\uff61-\uff9f]")
NEVER_WRITTEN = re.compile(r"[\x80-\x84\x86-\x9f\ue000-\uf8ff\ufffd]")
"""C1 controls but NEL, and private use: what a wrong encoding shows where the right one has letters."""

FOREIGN = re.compile(r"[^\x00-\x7f]+")
WESTERN = re.compile(r"[À-ÖØ-öø-ÿŒœŠšŽžŸ]")
QUOTES = re.compile(r"(?<=[A-Za-z])’(?=[A-Za-z\s,.]|$)|(?<!\w)“[^“”]*”(?!\w)|(?<=\s)[–—](?=\s)|…|[°©®·«»¡¿€£]")
LINE = re.compile(r"\r\n|\n|\r")
"""Where a line ends. `str.splitlines` also cuts at U+2028, U+2029 and U+0085, which are letters of a text."""


def decoded(data: bytes, *, whole: bool = True) -> str | None:
    """Returns the text in some bytes, without its byte order mark; None where no encoding fits.

    Args:
        data: the bytes.
        whole: false where they were cut off, so that the last character may be torn.
    """
    encoding = encoding_of(data, whole=whole)
    return None if encoding is None else _read(data, encoding, whole=whole)


def encoding_of(data: bytes, *, whole: bool = True) -> str | None:
    """Returns the name of the encoding some bytes are in, None where none fits.

    A byte order mark decides; else UTF-16 shows by its zeros, UTF-8 by its rules, Japanese by its kana, and Western
    European by accented letters among plain ones.
    """
    for mark, name in MARKS:
        if data.startswith(mark):
            return name if _read(data, name, whole=whole) is not None else None
    if b"\0" in data:
        name = "utf-16-le" if data[1::2].count(0) >= data[0::2].count(0) else "utf-16-be"
        plain = _read(data, name, whole=whole)
        return name if plain is not None and "\0" not in plain and not NEVER_WRITTEN.search(plain) else None
    if _read(data, "utf-8", whole=whole) is not None:
        return "utf-8"
    return next((name for name, fits in LEGACY if (plain := _read(data, name, whole=whole)) and fits(plain)), None)


def text_in(path: Path) -> str:
    """Returns the text of a file.

    Raises:
        OSError: it cannot be read, or is no file.
        ValueError: it is in no encoding that is known.
    """
    with open_regular(path) as file:
        plain = decoded(file.read())
    if plain is None:
        raise ValueError(text("it is in no encoding that is known"))
    return plain


def one_spelling(name: str) -> str:
    """Returns what two spellings of a file's name have in common: NFC, no case, "/" between folders, no "./"."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", one_folder_sign(name)).casefold())


def one_folder_sign(name: str) -> str:
    """Returns a name with "/" between folders, where Windows writes back slashes, and without "./"."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def lines_of(words: str) -> list[str]:
    """Returns the lines of a text, which end at line feeds and carriage returns and at nothing else."""
    return LINE.split(words)


def readable_name(name: str) -> str:
    """Returns a file's name as its bytes meant it: Linux hands out those that are no UTF-8 as lone surrogates."""
    if name.isascii() or not any("\udc80" <= character <= "\udcff" for character in name):
        return name
    return decoded(os.fsencode(name)) or name


def archive_encoding(names: Iterable[bytes]) -> str:
    """Returns the encoding of the names of a zip that does not say it: all in one, as one program wrote them.

    The format's own is cp437, which any bytes are; Japanese archivers write cp932, and many write UTF-8.
    """
    foreign = b"\n".join(name for name in names if not name.isascii())
    name = encoding_of(foreign)
    return name if name and not name.startswith("utf-16") else "cp437"


def _read(data: bytes, encoding: str, *, whole: bool) -> str | None:
    for mark, name in MARKS:
        if name == encoding:
            data = data.removeprefix(mark)
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(data, final=whole)
    except UnicodeDecodeError:
        return None


def _japanese(words: str) -> bool:
    """Says whether text that came out of a Japanese encoding is Japanese: kana, or characters no Western text hides."""
    half, kana = len(HALFWIDTH.findall(words)), len(KANA.findall(words))
    if NEVER_WRITTEN.search(words) or half > kana:
        return False
    western = _read(words.encode("cp932", "ignore"), "cp1252", whole=True)
    return kana > 0 or western is None or not _western(western)


def _kana(words: str) -> bool:
    return bool(KANA.search(words)) and not NEVER_WRITTEN.search(words)


def _western(words: str) -> bool:
    """Says whether text that came out of cp1252 is Western: single accented letters beside plain ones."""
    rest = QUOTES.sub(" ", words)
    if NEVER_WRITTEN.search(rest):
        return False
    for run in FOREIGN.finditer(rest):
        letters, around = run.group(), rest[max(0, run.start() - 1) : run.start()] + rest[run.end() : run.end() + 1]
        if len(letters) > 2 or not all(WESTERN.fullmatch(letter) for letter in letters):
            return False
        if not any(character.isalpha() for character in around):
            return False
    return True


LEGACY = (("cp932", _japanese), ("euc_jp", _kana), ("cp1252", _western))
"""Encodings before Unicode that are asked in turn, and what tells that the text that comes out is one."""
