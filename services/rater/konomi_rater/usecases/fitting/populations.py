"""Populations of a home: learnt from ratings of many, listed, removed, and lent to fits.

A taste whose own grades are in a population never stands on it: its held-out labels would not be held out.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import sqlalchemy

from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from konomi_chassis.durable_files import make_folder, sync_folder
from konomi_chassis.storage.failpoints import failpoint
from konomi_rater.preference.population import crowd
from konomi_rater.preference.population.crowd import LEAST_IMAGES, LEAST_RATERS, LEAST_RATINGS, MeanRatings, Ratings
from konomi_rater.preference.population.file import (
    ENDING,
    FOLDER,
    Population,
    PopulationRecord,
    PopulationSource,
    from_bytes,
    read_all,
    read_populations,
    to_bytes,
)
from konomi_rater.storage import consents, image_records, tastes
from konomi_rater.storage.consents import RevokedTeaching
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.workspace import Workspace


@dataclass(frozen=True)
class RatingGroup:
    """People whose ratings came together, under one consent; `images` of each are places among the digests.

    `members` are the uids of the tastes they are, of a bundle.
    """

    kind: str
    consent: str
    people: Sequence[Ratings]
    members: Sequence[str] = ()


@dataclass(frozen=True)
class PopulationRequest:
    """What a population is learnt from; the fields are the contract's, `tastes` with what each consent says.

    `key` is the sha256 of all of it with the request's id, empty where there is none: who asks the same again, because
    the answer was lost on its way, gets what was learnt then.
    """

    name: str
    taste: str
    digests: Sequence[str]
    groups: Sequence[RatingGroup]
    tastes: Sequence[tuple[str, str]]
    key: str = ""


@dataclass(frozen=True)
class FittedPopulation:
    """What was learnt; `absent` are places among the digests of images without a vector."""

    population: Population
    unheard: int
    absent: Sequence[int]


@dataclass(frozen=True)
class ListedPopulation:
    """A population of the home, and what was revoked of its images since."""

    population: Population
    revoked: RevokedTeaching


def populations_for(workspace: Workspace, taste: TasteRow, dimensions: int) -> tuple[Population, ...]:
    """Returns what others like, for one taste: those of its embedder that it is no member of.

    Raises:
        FailedPrecondition: a file cannot be read, or does not fit the embedder.
    """
    found = read_populations(folder_of(workspace), taste.embedder, dimensions)
    return tuple(population for population in found if taste.uid not in population.record.members)


def folder_of(workspace: Workspace) -> Path:
    """Returns the folder of population files; it may be missing."""
    return workspace.embedders.folder / FOLDER


class Populations:
    """The use cases behind FitPopulation, ListPopulations and RemovePopulation."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._lock = workspace, threading.Lock()

    def fit(self, request: PopulationRequest) -> FittedPopulation:
        """Learns a population and keeps it, durable before it returns; nobody waits for the database meanwhile.

        Raises:
            AlreadyExists: there is one of that name.
            NotFound: a taste there is none of.
            InvalidArgument: a consent is empty, a taste comes twice, or a rating speaks of no image.
            FailedPrecondition: too few people, or too few images of theirs at hand.
        """
        path = folder_of(self._workspace) / f"{request.name}{ENDING}"
        _require_unused(path, request)
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, request.taste)
            groups, digests, members = self._with_tastes(connection, request)
            vectors = image_records.read_embeddings(connection, taste.embedder, digests)
            background = self._workspace.view(connection, taste).embeddings
        absent = [place for place, digest in enumerate(digests) if digest not in vectors]
        people = [person for group in groups for person in _at_hand(group, absent, len(digests)).people]
        said = crowd.mean_ratings(people)
        _check_enough(said, len(people), len(absent), taste)
        rated_images = [digests[int(place)] for place in said.images]
        rated = np.stack([vectors[digest] for digest in rated_images])
        learnt = crowd.fit_crowd(rated, said, background if len(background) >= LEAST_IMAGES else rated)
        record = replace(
            _record(said, groups, members), created=self._workspace.clock(), srcc=learnt.srcc, request=request.key
        )
        data = to_bytes(Population(learnt.weights, record=record), taste.embedder)
        with self._lock:  # another may have been learnt meanwhile
            before = _require_unused(path, request)
            if before is None:
                _write(path, data)
        failpoint("population.after_file")
        kept = before or from_bytes(data, request.name)
        with self._workspace.writing() as connection:
            learnt_at = kept.record.created
            consents.remember_taught(connection, kept.digest, rated_images, said.counts.tolist(), learnt_at)
        return FittedPopulation(kept, len(people) - said.raters, absent)

    def read_all(self, after: str, limit: int) -> list[ListedPopulation]:
        """Returns up to `limit` populations past the name `after`, by name."""
        found = [one for one in read_all(folder_of(self._workspace)) if one.name > after][:limit]
        with self._workspace.reading() as connection:
            return [ListedPopulation(one, consents.revoked_teaching(connection, one.digest)) for one in found]

    def remove(self, connection: sqlalchemy.Connection, name: str) -> Population:
        """Removes a population, one whose file cannot be read too, and returns what it was.

        Args:
            connection: the transaction that forgets its images.
            name: its name.

        Raises:
            NotFound: there is none of that name.
        """
        path = folder_of(self._workspace) / f"{name}{ENDING}"
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(
                f"expected a population of this home, found no populations/{name}; konomi population list shows them",
                reason="POPULATION_NOT_FOUND",
            ) from error
        try:
            population = from_bytes(data, name)
        except FailedPrecondition:
            population = Population(np.zeros((0, 0)), name)
        path.unlink()
        sync_folder(path.parent)
        consents.forget_taught(connection, hashlib.sha256(data).hexdigest())
        return population

    def _with_tastes(
        self, connection: sqlalchemy.Connection, request: PopulationRequest
    ) -> tuple[list[RatingGroup], list[str], list[str]]:
        """Returns the groups with one more a taste, the digests with those these graded, and the tastes' ids."""
        groups, digests = list(request.groups), list(request.digests)
        own = [member for group in groups for member in group.members]
        members = list(own)
        for group in groups:
            _check_group(group, len(digests))
        places = {digest: place for place, digest in enumerate(digests)}
        for name, consent in request.tastes:
            if name == request.taste:
                raise InvalidArgument(
                    f"expected tastes of others, found tastes/{name}, for which the population is; leave it out: "
                    "what a taste says of itself is no prior",
                    reason="POPULATION_OF_ITSELF",
                    field="tastes",
                )
            members.append(tastes.read(connection, name).uid)
            grades = self._workspace.grades(connection, name).every
            given = [(digest, entry.grade) for digest, entry in grades.items() if entry.grade]
            for digest, _ in given:
                if digest not in places:
                    places[digest] = len(digests)
                    digests.append(digest)
            rows = np.array([places[digest] for digest, _ in given], np.int64)
            person = Ratings(rows, np.array([grade for _, grade in given], np.float64))
            groups.append(RatingGroup("taste", consent, [person]))
        for group in groups:
            _check_consent(group)
        heard = [one for group in request.groups for one in _whose(group)] + members[len(own) :]
        if len(set(heard)) < len(heard):
            raise InvalidArgument(
                "expected each taste and each file of ratings once, found one that comes twice; leave one out: "
                "a person is heard once",
                reason="PERSON_TWICE",
                field="groups",
            )
        return groups, digests, members


def _record(said: MeanRatings, groups: Sequence[RatingGroup], members: Sequence[str]) -> PopulationRecord:
    """Returns what was heard."""
    return PopulationRecord(
        raters=said.raters,
        ratings=int(said.counts.sum()),
        images=len(said.images),
        sources=tuple(PopulationSource(group.kind, len(group.people), group.consent) for group in groups),
        members=tuple(members),
    )


def _whose(group: RatingGroup) -> list[str]:
    """Returns what tells the people of a group from others: tastes' uids, else what they say, as one digest."""
    if group.members:
        return list(group.members)
    said = hashlib.sha256()
    for one in group.people:
        order = np.argsort(one.images, kind="stable")
        said.update(one.images[order].tobytes() + one.values[order].tobytes())
    return [said.hexdigest()]


def _require_unused(path: Path, request: PopulationRequest) -> Population | None:
    """Returns what an earlier try of the same request left, None where nothing has the name.

    Raises:
        AlreadyExists: another request's has it.
    """
    if not path.exists():
        return None
    if request.key:
        with contextlib.suppress(FailedPrecondition):  # a file that cannot be read is another's
            found = from_bytes(path.read_bytes(), request.name)
            if found.record.request == request.key:
                return found
    raise AlreadyExists(
        f"populations/{request.name} exists already; remove it first (konomi population remove), or use another name",
        reason="POPULATION_EXISTS",
    )


def _check_consent(group: RatingGroup) -> None:
    if not group.consent.strip():
        raise InvalidArgument(
            "expected what the consent to use these ratings says, found nothing; say it, or the licence they were "
            "published under: ratings of people who did not consent are not used",
            reason="CONSENT_MISSING",
            field="consent",
        )


def _check_group(group: RatingGroup, images: int) -> None:
    for person in group.people:
        if len(person.images) != len(person.values) or not np.isfinite(person.values).all():
            raise InvalidArgument(
                f"expected one finite value for each image, found {len(person.values)} values of "
                f"{len(person.images)} images; send pairs",
                reason="RATINGS_UNPAIRED",
                field="groups",
            )
        if len(person.images) and not (person.images.min() >= 0 and person.images.max() < images):
            raise InvalidArgument(
                f"expected places of images from 0 to {images - 1}, found {person.images.max()}; send every image's "
                "digest",
                reason="RATINGS_UNPAIRED",
                field="groups",
            )


def _at_hand(group: RatingGroup, absent: Sequence[int], images: int) -> RatingGroup:
    """Returns the group without its ratings of absent images."""
    here = np.ones(images, bool)
    here[list(absent)] = False
    kept = [Ratings(one.images[here[one.images]], one.values[here[one.images]]) for one in group.people]
    return RatingGroup(group.kind, group.consent, kept, group.members)


def _check_enough(said: MeanRatings, people: int, absent: int, taste: TasteRow) -> None:
    if said.raters < LEAST_RATERS:
        raise FailedPrecondition(
            f"expected at least {LEAST_RATERS} people who each rated {LEAST_RATINGS} images at hand and not all of "
            f"them alike, found {said.raters} of {people}, with {absent} images not at hand under {taste.embedder}; "
            "add people, or import the images: a mean of fewer would tell what one of them likes",
            reason="TOO_FEW_RATERS",
        )
    if len(said.images) < LEAST_IMAGES:
        raise FailedPrecondition(
            f"expected ratings of at least {LEAST_IMAGES} images at hand under {taste.embedder}, found "
            f"{len(said.images)}, and {absent} that are not at hand; import the images first",
            reason="TOO_FEW_IMAGES",
        )


def _write(path: Path, data: bytes) -> None:
    """Writes a file complete or not at all, and durable."""
    make_folder(path.parent)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    sync_folder(path.parent)
