"""A taste gathered from the services into one bundle, and restored from it: artifacts by digest, then two calls."""

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from konomi.client import Client
from konomi.client.services import CHUNK_BYTES, taste_name
from konomi.errors import AlreadyExists, InvalidArgument, NotFound
from konomi.files import canonical, read_json, write_atomically
from konomi.home import Home
from konomi.i18n.catalogue import text
from konomi.taste import prompts as written_prompts
from konomi.taste.bundle_format import BundleEntry, Manifest, read_bundle, read_manifest, sorted_entries, write_bundle
from konomi.v1 import artifact_pb2

NIGHTS, SETTINGS, PROMPTS = "nights", "settings", "prompts"
OWN = (NIGHTS, SETTINGS, PROMPTS)
"""Parts the client keeps itself; every other lies in the artifact store."""
TABLES = ("night", "guards", "rater")
"""Tables of konomi.toml that shape a taste; the others are this machine's, or hold secrets."""
NIGHT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
JSON = "application/json"
Report = Callable[[int, int], None]
"""Told how many artifacts of how many are done."""
Remark = Callable[[str], None]
"""Told a sentence for the reader."""


@dataclass(frozen=True)
class Wish:
    """How a bundle shall be restored.

    Attributes:
        name: name the taste gets; empty keeps the one it had.
        replace: replaces a taste of that name.
        models: also restores the models.
        settings: also writes the settings, where the home has none.
    """

    name: str = ""
    replace: bool = False
    models: bool = True
    settings: bool = False


def gather(client: Client, own: Mapping[str, bytes], taste: str, path: Path, images: bool, report: Report) -> Manifest:
    """Writes a taste as a bundle, complete or not at all.

    Args:
        client: the services.
        own: what `own_parts` returned of the taste.
        taste: its id or name.
        path: the file.
        images: with the images themselves.
        report: told of every artifact.

    Raises:
        NotFound: no such taste, or an artifact it names is missing.
    """
    name = taste_name(taste)
    parts = list(client.rater.export_taste(taste=name, images=images))
    lineage = list(client.trainer.export_lineage(taste=name))
    data = {_digest(content): content for content in own.values()}
    entries = [_entry(part) for part in (*parts, *lineage)]
    entries += [BundleEntry(_digest(content), JSON, len(content), part) for part, content in own.items()]
    ordered = sorted_entries(entries)
    manifest = Manifest(name, parts[0].artifact.digest, lineage[0].artifact.digest, ordered)
    done = {entry.digest: number for number, entry in enumerate(ordered, start=1)}

    def read(entry: BundleEntry) -> Iterator[bytes]:
        if entry.part in OWN:
            yield data[entry.digest]
        else:
            yield from (reply.chunk for reply in client.artifacts.get_artifact(digest=entry.digest))
        report(done[entry.digest], len(ordered))

    write_bundle(path, manifest, read)
    return manifest


def restore(
    client: Client, home: Home, path: Path, wish: Wish, report: Report, remark: Remark = lambda line: None
) -> Manifest:
    """Restores a taste from a bundle: first the whole file is checked, then the services take it over, each at once.

    Args:
        client: the services.
        home: where what the client keeps itself lies.
        path: the bundle.
        wish: how it shall be restored.
        report: told of every artifact.
        remark: told what was left as it is, or replaced, beside the taste.

    Raises:
        AlreadyExists: there is a taste of that name, or a model of its, and it shall not be replaced.
        DataLoss, InvalidArgument, FailedPrecondition: as for `read_bundle`; nothing was sent.
    """
    manifest, own = _read_own(path)
    prompts = _prompts(own.get(PROMPTS, b""))
    name = taste_name(wish.name) if wish.name else manifest.taste
    there = _exists(client, name)
    if there and not wish.replace:
        raise AlreadyExists(
            text(
                "{name} exists already and stays as it is; restore under another name with --as, or say --replace",
                name=name,
            ),
            reason="TASTE_EXISTS",
        )
    _send(client, path, wish, report)
    if wish.models and manifest.lineage_rows:
        client.trainer.import_lineage(rows_digest=manifest.lineage_rows, taste=name, replace=wish.replace)
    client.rater.import_taste(rows_digest=manifest.taste_rows, taste=name, replace=wish.replace)
    restore_nights(home, own.get(NIGHTS, b""), name)
    restore_prompts(home, prompts, name, there, remark)
    if wish.settings:
        restore_settings(home, own.get(SETTINGS, b""))
    return manifest


def _read_own(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Checks a whole bundle; returns its manifest and the parts the client keeps itself."""
    own: dict[str, bytes] = {}

    def keep(entry: BundleEntry, chunks: Iterator[bytes]) -> None:
        if entry.part == PROMPTS:
            _check_size(entry)
        if entry.part in OWN:
            own[entry.part] = b"".join(chunks)

    return read_bundle(path, keep), own


def _send(client: Client, path: Path, wish: Wish, report: Report) -> None:
    """Stores a bundle's artifacts, but the parts the client keeps itself, and models where they are not wished for."""
    count, done = len(read_manifest(path).entries), 0

    def take(entry: BundleEntry, chunks: Iterator[bytes]) -> None:
        nonlocal done
        if entry.part not in OWN and (wish.models or entry.part not in ("adapter", "manifest", "sheet")):
            put(client, entry, chunks)
        done += 1
        report(done, count)

    read_bundle(path, take)


def put(client: Client, entry: BundleEntry, chunks: Iterable[bytes]) -> None:
    """Stores an artifact without holding it in memory; the server refuses other bytes than the digest's."""
    header = artifact_pb2.PutArtifactHeader(media_type=entry.media_type, digest=entry.digest)

    def messages() -> Iterator[artifact_pb2.PutArtifactRequest]:
        yield artifact_pb2.PutArtifactRequest(header=header)
        for chunk in chunks:
            for start in range(0, len(chunk), CHUNK_BYTES):
                yield artifact_pb2.PutArtifactRequest(chunk=chunk[start : start + CHUNK_BYTES])

    client.artifacts.put_artifact(messages())


def own_parts(home: Home, nights: Iterable[str], taste: str = "") -> dict[str, bytes]:
    """Returns the parts of a bundle that the client keeps itself: records of nights, the settings, written prompts.

    Args:
        home: where they lie.
        nights: ids of the taste's nights that are over, oldest first.
        taste: id or name of the taste whose prompts go along, where somebody wrote some down; "" for none.
    """
    parts = {NIGHTS: recorded_nights(home, nights), SETTINGS: settings(home)}
    lines = written_prompts.kept(home.root, taste) if taste else []
    if lines:
        parts[PROMPTS] = canonical({"kind": "konomi.prompts", "schema": 1, "prompts": lines})
    return parts


def restore_prompts(home: Home, lines: list[str], taste: str, replace: bool, remark: Remark) -> None:
    """Writes a bundle's prompts down as the taste's; others that are kept stay, or go with the taste they belong to.

    Args:
        home: where they are kept.
        lines: the bundle's prompts; none where it has none.
        taste: name of the restored taste.
        replace: the taste that was there was replaced, and kept in a bundle of its own before.
        remark: told where others were kept.
    """
    before = written_prompts.kept(home.root, taste)
    if not lines or lines == before:
        return
    if before and not replace:
        line = "the prompts kept for {taste} stay as they are; the bundle's {count} were not written"
        return remark(text(line, taste=taste, count=len(lines)))
    written_prompts.keep(home.root, taste, lines)
    if before:
        line = "the prompts kept for {taste} were replaced by the bundle's {count}"
        remark(text(line, taste=taste, count=len(lines)))
    return None


def _prompts(content: bytes) -> list[str]:
    """Returns the prompts of a bundle, as they would be kept.

    Raises:
        InvalidArgument: they are no list of prompts, or one the page would not take either.
    """
    try:
        lines = dict(json.loads(content or b"{}")).get("prompts", [])
    except (ValueError, TypeError, RecursionError):
        lines = None
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        line = text("expected the prompts of a taste in the bundle, found other content; nothing was restored")
        raise InvalidArgument(line, reason="PROMPT_INVALID", field="prompts")
    return written_prompts.usable(lines)


def _check_size(entry: BundleEntry) -> None:
    """Refuses prompts larger than any that can be kept, before they are read into memory."""
    most = 8 * written_prompts.MOST * written_prompts.LONGEST  # a letter may be spelt with six
    if entry.size_bytes > most:
        line = "expected at most {most} prompts of {bytes} bytes in the bundle, found more"
        message = text(line, most=written_prompts.MOST, bytes=written_prompts.LONGEST)
        raise InvalidArgument(message, reason="TOO_MANY_PROMPTS", field="prompts")


def recorded_nights(home: Home, nights: Iterable[str]) -> bytes:
    """Returns the records of nights, in their order."""
    folders = [home.root / "nights" / night for night in nights]
    records = [
        {"id": path.name, "request": read_json(path / "request.json"), "night": read_json(path / "night.json")}
        for path in folders
    ]
    return canonical({"kind": "konomi.nights", "schema": 1, "nights": records})


def restore_nights(home: Home, content: bytes, taste: str) -> None:
    """Writes the records of nights this home has none of; InvalidArgument where one has no id of a night."""
    nights = dict(json.loads(content or b"{}")).get("nights", [])
    if not all(isinstance(record, dict) and NIGHT_ID.fullmatch(str(record.get("id"))) for record in nights):
        line = text("expected the records of nights in the bundle, found other content; it was not written")
        raise InvalidArgument(line)
    for record in nights:
        folder = home.root / "nights" / str(record["id"])
        if not folder.exists():
            numbered = {name: value for name, value in dict(record["night"]).items() if name != "sequence"}
            write_atomically(folder / "night.json", canonical(numbered))  # its number was its own home's
            write_atomically(folder / "delivered", b"")
            write_atomically(folder / "request.json", canonical({**record["request"], "taste": taste}))


def settings(home: Home) -> bytes:
    """Returns the settings that shape a taste."""
    try:
        tables = tomllib.loads(home.configuration.read_text("utf-8-sig"))
    except FileNotFoundError:
        tables = {}
    kept = {table: tables[table] for table in TABLES if table in tables}
    return canonical({"kind": "konomi.settings", "schema": 1, "tables": kept})


def restore_settings(home: Home, content: bytes) -> None:
    """Writes the settings of a bundle as the home's.

    Raises:
        AlreadyExists: the home has settings of its own.
        InvalidArgument: the bundle's settings are no tables that TOML can hold; nothing is written.
    """
    if home.configuration.exists():
        there = "{file} is there already and stays as it is; everything else was restored"
        raise AlreadyExists(text(there, file=home.configuration))
    tables = dict(json.loads(content or b"{}")).get("tables", {})
    try:
        toml = tomli_w.dumps({table: dict(sorted(tables[table].items())) for table in TABLES if table in tables})
    except (TypeError, AttributeError) as error:
        line = text("expected tables of settings in the bundle, found other content: {why}", why=error)
        raise InvalidArgument(line) from error
    write_atomically(home.configuration, toml.encode())


def _exists(client: Client, name: str) -> bool:
    try:
        client.rater.get_taste(name=name)
    except NotFound:
        return False
    return True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _entry(snapshot: artifact_pb2.SnapshotArtifact) -> BundleEntry:
    part = artifact_pb2.SnapshotPart.Name(snapshot.part).removeprefix("SNAPSHOT_PART_").lower()
    return BundleEntry(snapshot.artifact.digest, snapshot.artifact.media_type, snapshot.artifact.size_bytes, part)
