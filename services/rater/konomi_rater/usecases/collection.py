"""Collects the pixels of rejected candidates by the owner's policy, and those of revoked images at once.

What goes is written down first, in a transaction of its own; then the pixels are removed inside a second one that looks
again. Labels, comparisons, audits and images are written by transactions too, so none can come in between. Whatever a
kill leaves half done, the next run ends; for revoked images that is the next start.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from konomi.errors import DataLoss, FailedPrecondition, NotFound
from konomi_chassis.storage.artifacts import GRACE_SECONDS, REVOKED, ArtifactStore, elsewhere
from konomi_chassis.storage.caches import forget_derived
from konomi_chassis.storage.dialects import NO_LIMIT
from konomi_chassis.storage.failpoints import failpoint
from konomi_rater.storage import collected, tastes
from konomi_rater.storage.collected import Standing
from konomi_rater.usecases.workspace import Workspace

BATCH = 64
"""Images that go in one transaction: labels wait for so many at most."""
MOST = 2000
"""Images one call collects, or a dry run names, at most."""
NAMED = re.compile(r"[0-9a-f]{64}")
REJECTED, GONE, ABSENT = "rejected", "collected", "absent"


@dataclass(frozen=True)
class RetentionPolicy:
    """Which rejected candidates may go.

    Attributes:
        rejected_seconds: age from which they may; 0 for never.
        keep_units: newest units of every taste whose images all stay.
        keep: digests that stay, because manifests, sets or the records of nights name them.
        nights: nights under way, whose images all stay.
    """

    rejected_seconds: float
    keep_units: int = 0
    keep: frozenset[str] = frozenset()
    nights: frozenset[str] = frozenset()

    def describe(self) -> str:
        """Returns the policy as the record of what went says it."""
        days = f"{self.rejected_seconds / 86400:g}"
        return f"rejected candidates older than {days} days, but those of the newest {self.keep_units} units"


@dataclass
class ImageKind:
    """How many images are of a kind, and the bytes of their pixels."""

    count: int = 0
    size: int = 0


@dataclass
class Collection:
    """What a run found, and what it took or would take.

    Attributes:
        kinds: every image of the tastes by why it stays, "rejected" for those that may go.
        digests: those that went; in a dry run those that would.
        size: their bytes.
        next_token: where the next call goes on; empty at the end.
    """

    kinds: dict[str, ImageKind] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    size: int = 0
    next_token: str = ""


class Collecting:
    """The use case behind CollectImages, and the removal of revoked images' pixels."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def keep_named(self, artifacts: Iterable[str]) -> frozenset[str]:
        """Returns every digest that stands in artifacts such as manifests.

        Raises:
            FailedPrecondition: one cannot be read, so nobody knows what it names.
        """
        named: set[str] = set()
        for digest in artifacts:
            try:
                named.update(NAMED.findall(self._workspace.store.get(digest).decode("utf-8", "replace")))
            except NotFound as error:
                raise FailedPrecondition(
                    f"expected artifact {digest} in the store, found none; it names images that must stay, so nothing "
                    "was collected: restore it, or leave it out",
                    reason="KEPT_UNREADABLE",
                ) from error
        return frozenset(named)

    def run(self, taste_id: str, policy: RetentionPolicy, after: str, *, dry: bool) -> Collection:
        """Looks at a taste, or at all, and collects what may go, some at a time.

        Args:
            taste_id: the taste; empty for all of them.
            policy: what may go.
            after: token of the call before, empty for the first.
            dry: only looks.

        Raises:
            NotFound: no such taste.
            FailedPrecondition: the store is no folder of this machine.
        """
        if not dry and not self._workspace.store.is_local:
            raise elsewhere()
        look = _Look(self._workspace, policy)
        with self._workspace.reading() as connection:
            if taste_id:
                tastes.read(connection, taste_id)
            reasons = look.at(connection)
        result, going, absent = self._sorted(taste_id, reasons)
        page = [digest for digest in going if digest > after][: MOST + 1]
        result.next_token = page[MOST - 1] if len(page) > MOST else ""
        page = page[:MOST]
        if dry:
            result.digests, result.size = page, sum(self._workspace.store.size(digest) or 0 for digest in page)
            return result
        self._put_right(reasons, set(going))
        self._note_gone(absent)
        for start in range(0, len(page), BATCH):
            self._collect(look, page[start : start + BATCH], result)
        return result

    def _sorted(
        self, taste_id: str, reasons: Mapping[str, Mapping[str, str]]
    ) -> tuple[Collection, list[str], list[str]]:
        """Returns the images by kind, those that may go and those that are absent, by digest.

        Args:
            taste_id: the taste; empty for all of them.
            reasons: why each image stays, by every taste that knows it. Of what may go, what was put or used within a
                day stays as "in_use".
        """
        store, result, going, absent = self._workspace.store, Collection(), [], []
        cutoff = self._workspace.clock() - GRACE_SECONDS
        with self._workspace.reading() as connection:
            gone = {
                row.id: collected.without_pixels(connection, row.id)
                for row in tastes.read_all(connection, "", NO_LIMIT)
            }
        for digest, by_taste in reasons.items():
            if taste_id and taste_id not in by_taste:
                continue
            size, reason = _size(store, digest), _strongest(by_taste, taste_id)
            if size is None:
                reason = GONE if any(digest in gone.get(taste, ()) for taste in by_taste) else ABSENT
            elif not reason:
                used = store.last_used(digest)
                reason = "elsewhere" if used is None else "in_use" if used >= cutoff else REJECTED
            kind = result.kinds.setdefault(reason, ImageKind())
            kind.count, kind.size = kind.count + 1, kind.size + (size or 0)
            if reason == REJECTED:
                going.append(digest)
            elif reason == ABSENT:
                absent.append(digest)
        return result, sorted(going), absent

    def _note_gone(self, absent: Sequence[str]) -> None:
        """Notes as collected what the store says was: a database that was restored does not know what went since."""
        workspace = self._workspace
        gone = [digest for digest in absent if workspace.store.missing(digest).reason == "ARTIFACT_COLLECTED"]
        if gone:
            with workspace.writing() as connection:
                for row in tastes.read_all(connection, "", NO_LIMIT):
                    images = collected.standings(connection, row.id, gone)
                    collected.note_collected(connection, images, {}, "went after a backup", workspace.clock())

    def _put_right(self, reasons: Mapping[str, Mapping[str, str]], going: set[str]) -> None:
        """Ends the collected state of images that have pixels and stay: a kill, or somebody, kept them there."""
        workspace = self._workspace
        with workspace.reading() as connection:
            names = [row.id for row in tastes.read_all(connection, "", NO_LIMIT)]
            gone = {name: collected.without_pixels(connection, name) for name in names}
        back = {
            name: sorted(d for d in digests if d in reasons and d not in going and workspace.store.exists(d))
            for name, digests in gone.items()
        }
        if any(back.values()):
            with workspace.writing() as connection:
                for name, digests in back.items():
                    still = [digest for digest in digests if workspace.store.exists(digest)]
                    collected.note_returned(connection, name, still, "in use again", workspace.clock())

    def _collect(self, look: "_Look", digests: Sequence[str], result: Collection) -> None:
        """Writes a batch down, then removes its pixels; what came to be needed meanwhile stays, and that is noted."""
        workspace, words = self._workspace, look.policy.describe()
        sizes = {digest: workspace.store.size(digest) or 0 for digest in digests}
        with workspace.writing() as connection:
            free = look.still_free(connection, digests)
            images = [image for digest in free for image in look.standing[digest]]
            collected.note_collected(connection, images, sizes, words, workspace.clock())
        failpoint("collection.after_record")
        with workspace.writing() as connection:
            standing = look.still_free(connection, free)
            done = workspace.store.discard(standing, workspace.clock() - GRACE_SECONDS)
            for digest in set(free) - done.freed.keys():
                for image in look.standing[digest]:
                    collected.note_returned(connection, image.taste, [digest], "in use again", workspace.clock())
            failpoint("collection.before_commit")
        failpoint("collection.after_pixels")
        result.digests += sorted(done.freed)
        result.size += sum(done.freed.values())

    def finish_revocations(self) -> int:
        """Removes the pixels of revoked images no taste knows any more, with all that was derived from them.

        Called after every revocation, and at the start for those a kill cut short.

        Where the store is no folder of this machine the pixels stay there, for its keeper to remove.

        Returns:
            How many images have no pixels now.
        """
        workspace = self._workspace
        with workspace.reading() as connection:
            digests = collected.leaving(connection)
        if not digests:
            return 0
        failpoint("revocation.before_pixels")
        with workspace.writing() as connection:
            going = sorted(set(digests) - collected.known_elsewhere(connection, digests))
            if workspace.store.is_local:
                workspace.store.discard(going, None, REVOKED)
        failpoint("revocation.after_pixels")
        forget_derived(workspace.settings.home / "cache", going)
        failpoint("revocation.after_caches")
        with workspace.writing() as connection:
            collected.left(connection, digests)
        return len(going)


class _Look:
    """What one run knows of why images stay; the parts that can change meanwhile are looked at again for a batch."""

    def __init__(self, workspace: Workspace, policy: RetentionPolicy) -> None:
        self._workspace, self.policy = workspace, policy
        self.standing: dict[str, list[Standing]] = {}
        self._units: dict[str, set[str]] = {}
        self._parents: dict[str, set[str]] = defaultdict(set)
        self._last_row: dict[str, int] = defaultdict(int)
        self._members: dict[str, frozenset[str]] = {}

    def at(self, connection: Connection) -> dict[str, dict[str, str]]:
        """Returns, by digest, the reason of every taste that knows the image; REJECTED where it has none."""
        names = [row.id for row in tastes.read_all(connection, "", NO_LIMIT)]
        images = {name: collected.standings(connection, name) for name in names}
        for name in names:
            self._units[name] = collected.newest_units(connection, name, self.policy.keep_units)
            self._note_parents(connection, name)
        return self._reasons(connection, images)

    def still_free(self, connection: Connection, digests: Sequence[str]) -> list[str]:
        """Returns which images nothing keeps now, and remembers how they stand in every taste."""
        names = [row.id for row in tastes.read_all(connection, "", NO_LIMIT)]
        images = {name: collected.standings(connection, name, digests) for name in names}
        for name in names:
            self._note_parents(connection, name)
            if name not in self._units:  # it was restored meanwhile
                self._units[name] = collected.newest_units(connection, name, self.policy.keep_units)
        reasons = self._reasons(connection, images)
        self.standing = defaultdict(list)
        for standing in (standing for rows in images.values() for standing in rows):
            self.standing[standing.digest].append(standing)
        return [digest for digest in digests if digest in reasons and not any(reasons[digest].values())]

    def _note_parents(self, connection: Connection, taste: str) -> None:
        self._parents[taste] |= collected.parents(connection, taste, self._last_row[taste])
        rows = collected.last_row(connection, taste)
        self._last_row[taste] = max(rows, self._last_row[taste])

    def _reasons(self, connection: Connection, images: Mapping[str, list[Standing]]) -> dict[str, dict[str, str]]:
        certified = {name: self._certified(connection, name) for name in images}
        parents = {digest for named in self._parents.values() for digest in named}
        reasons: dict[str, dict[str, str]] = defaultdict(dict)
        for name, rows in images.items():
            for row in rows:
                reason = row.reason or self._by_policy(row, certified[name], parents)
                reasons[row.digest][name] = reason
        return reasons

    def _by_policy(self, image: Standing, certified: frozenset[str], parents: set[str]) -> str:
        policy = self.policy
        oldest = self._workspace.clock() - policy.rejected_seconds
        for reason, holds in (
            ("selected", image.digest in policy.keep),
            ("certified", image.digest in certified),
            ("parent", image.digest in parents),
            ("night_under_way", image.night in policy.nights),
            ("newest_units", image.unit in self._units.get(image.taste, ())),
            ("recent", not policy.rejected_seconds or image.created > oldest),
        ):
            if holds:
                return reason
        return collected.REJECTED

    def _certified(self, connection: Connection, taste: str) -> frozenset[str]:
        members: frozenset[str] = frozenset()
        for digest in collected.certified_sets(connection, taste):
            if digest not in self._members:
                self._members[digest] = frozenset(json.loads(self._workspace.store.get(digest))["digests"])
            members |= self._members[digest]
        return members


def _size(store: ArtifactStore, digest: str) -> int | None:
    """Returns the bytes of an artifact, None where it is absent or no file stands in its place: that is not ours."""
    try:
        return store.size(digest)
    except DataLoss:
        return None


def _strongest(by_taste: Mapping[str, str], taste: str) -> str:
    """Returns why an image stays: the reason of the taste asked for, else another taste's; empty where it may go."""
    own = by_taste.get(taste, "") if taste else ""
    if own:
        return own
    other = next((reason for reason in by_taste.values() if reason), "")
    return "other_taste" if taste and other else other
