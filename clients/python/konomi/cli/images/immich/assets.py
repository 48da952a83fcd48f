"""Which pictures an Immich server has: searched page by page, by album, as favourites, or all."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from konomi.cli.images.immich.server import ImmichServer
from konomi.errors import DataLoss, NotFound
from konomi.i18n.catalogue import text

PAGE = 1000
"""Of a search; the most Immich gives at once."""

ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True)
class Asset:
    """One picture.

    Attributes:
        id: Immich's.
        name: of its file, as its owner knows it.
        checksum: of its bytes, as Immich says it.
        rating: 1 to 5 stars, -1 rejected, None where nobody rated it.
    """

    id: str
    name: str
    checksum: str
    rating: int | None = None


@dataclass(frozen=True)
class Selection:
    """Which pictures are meant.

    Attributes:
        albums: names or ids; a picture of any of them; none means all.
        favourites: favourites alone.
        limit: at most so many, the oldest first; None for all.
    """

    albums: Sequence[str] = ()
    favourites: bool = False
    limit: int | None = None

    def key(self) -> str:
        """Returns what tells two selections apart."""
        return repr((sorted(self.albums), self.favourites, self.limit))


@dataclass
class AssetReader:
    """Reads the pictures of a server.

    Attributes:
        server: is asked.
        passed_over: why an asset was not taken to how many; filled while they are read.
    """

    server: ImmichServer
    passed_over: Counter[str] = field(default_factory=Counter)

    def read(self, selection: Selection) -> Iterator[Asset]:
        """Yields the pictures of a selection, each once, oldest first; errors as of `ImmichServer.ask`.

        Raises:
            NotFound: there is no such album (reason IMMICH_ALBUM).
            DataLoss: an answer lacks what Immich's have.
        """
        searches = [[album] for album in self._album_ids(selection.albums)] or [[]]
        seen: set[str] = set()
        for albums in searches:
            for raw in self._pages(albums, selection.favourites):
                asset = self._asset(raw)
                if asset is None or asset.id in seen:
                    continue
                if selection.limit is not None and len(seen) >= selection.limit:
                    return
                seen.add(asset.id)
                yield asset

    def _pages(self, albums: Sequence[str], favourites: bool) -> Iterator[Mapping[str, Any]]:
        asked: dict[str, object] = {"size": PAGE, "order": "asc", "withExif": True}
        if albums:
            asked["albumIds"] = list(albums)
        if favourites:
            asked["isFavorite"] = True
        page: int | None = 1
        while page is not None:
            said = self.server.ask("POST", "/search/metadata", {**asked, "page": page})
            try:
                found, following = said["assets"]["items"], said["assets"]["nextPage"]
                page = int(following) if following and int(following) > page else None
            except (KeyError, TypeError, ValueError) as error:
                raise _unknown_shape(self.server) from error
            yield from found

    def _asset(self, raw: Mapping[str, Any]) -> Asset | None:
        """Returns a picture; None for what is none, or is away, which is counted."""
        try:
            kind, away = raw["type"], bool(raw.get("isTrashed") or raw.get("isOffline"))
            identity = str(raw["id"])
            if not ID.fullmatch(identity):
                raise ValueError(identity)
            rating = (raw.get("exifInfo") or {}).get("rating")
            asset = Asset(identity, str(raw["originalFileName"]), str(raw["checksum"]), _rating(rating))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unknown_shape(self.server) from error
        if kind != "IMAGE":
            self.passed_over["video" if kind == "VIDEO" else "other"] += 1
            return None
        if away:
            self.passed_over["away"] += 1
            return None
        return asset

    def _album_ids(self, albums: Sequence[str]) -> list[str]:
        if not albums:
            return []
        try:
            known = [(str(one["id"]), str(one["albumName"])) for one in self.server.ask("GET", "/albums")]
        except (KeyError, TypeError) as error:
            raise _unknown_shape(self.server) from error
        found = []
        for album in albums:
            ids = [identity for identity, name in known if album in (identity, name)]
            if not ids:
                line = text("Immich has no album {album}: give its name or id", album=album)
                raise NotFound(line, reason="IMMICH_ALBUM")
            found += ids
        return list(dict.fromkeys(found))


def _rating(said: object) -> int | None:
    """Returns a rating as it stands there; 0 stars are none."""
    return said if isinstance(said, int) and not isinstance(said, bool) and -1 <= said <= 5 and said else None


def _unknown_shape(server: ImmichServer) -> DataLoss:
    line = text(
        "what answers at {address} is no Immich: its answer is not the JSON that was expected", address=server.address
    )
    return DataLoss(line, reason="IMMICH_ANSWER")
