"""Pictures of an Immich server on their way: fetched as files are read, and scored so that nothing is fetched twice."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from konomi.cli.images.immich.assets import Asset
from konomi.cli.images.immich.server import ImmichServer
from konomi.datasets.media import ImageFile, image_file
from konomi.datasets.xmp import Rating
from konomi.errors import InvalidArgument, KonomiError, NotFound, ResourceExhausted
from konomi.taste.scoring.journal import Outcome, ScoreJournal

PREVIEW, ORIGINAL = "/assets/{id}/thumbnail?size=preview", "/assets/{id}/original"
OF_ONE = (NotFound, InvalidArgument, ResourceExhausted)
"""What a picture may be refused for without the others being refused as well."""
BUSY = "IMMICH_BUSY"


class AssetJournal(ScoreJournal):
    """What a command has learnt so far, by Immich's own checksums: a picture it knows of is not fetched again."""

    def __init__(self, folder: Path, taste: str, asked: str, assets: Mapping[str, Asset]) -> None:
        """Opens the journal of a command.

        Args:
            folder: of the journals.
            taste: the taste that scores.
            asked: what tells this command from others.
            assets: id → picture.
        """
        super().__init__(folder, taste, [Path("/immich") / asked])
        self._assets = assets

    def find(self, path: str, digest: str, version: str) -> Outcome | None:
        """Returns what was said of a picture, if it and the rater version are still the same."""
        return super().find(path, self._assets[path].checksum, version)

    def add(self, path: str, digest: str, version: str, result: Outcome) -> None:
        """Notes what was said of a picture."""
        super().add(path, self._assets[path].checksum, version, result)


def fetched(
    server: ImmichServer,
    assets: Iterable[Asset],
    *,
    original: bool,
    known: "AssetJournal | None" = None,
    version: str = "",
) -> Iterator[ImageFile]:
    """Yields the pictures as files whose names are their ids; one that cannot be had brings its error.

    Args:
        server: is asked.
        assets: which.
        original: the files themselves, in place of Immich's previews, which every picture has as a JPEG or WebP.
        known: pictures it knows of come without bytes.
        version: of the rater, for `known`.

    Raises:
        KonomiError: the server cannot be reached, or the key may not.
    """
    path = ORIGINAL if original else PREVIEW
    for asset in assets:
        if known is not None and known.find(asset.id, "", version) is not None:
            yield ImageFile(asset.id)
            continue
        try:
            data = server.bytes_of(path.format(id=asset.id))
        except OF_ONE as error:
            if error.reason == BUSY:
                raise
            yield ImageFile(asset.id, error=error)
            continue
        yield image_file(asset.id, data)


def until_failure(files: Iterable[ImageFile], failures: list[KonomiError]) -> Iterator[ImageFile]:
    """Yields files until one cannot be had for a reason that others share, which goes into `failures`.

    What came before is then scored and noted as ever, and the same command goes on behind it.
    """
    try:
        yield from files
    except KonomiError as error:
        failures.append(error)


def rated(files: Iterable[ImageFile], assets: Mapping[str, Asset], written: Mapping[str, int]) -> Iterator[ImageFile]:
    """Yields files under their own names, with the stars their owner gave them in Immich; -1, rejected, is no grade.

    Args:
        files: named by id.
        assets: id → picture.
        written: id → stars konomi wrote; where these stand still, nobody has said anything.
    """
    for file in files:
        asset = assets[file.name]
        mine = asset.rating is not None and written.get(asset.id) == asset.rating
        grade = None if asset.rating is None or mine else max(0, asset.rating)
        yield replace(file, name=asset.name, path=asset.name, rating=Rating(grade))
