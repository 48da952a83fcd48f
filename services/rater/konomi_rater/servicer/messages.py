"""The contract's messages from and to the rater's own records."""

import re
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from konomi.errors import InvalidArgument, KonomiError
from konomi.v1 import artifact_pb2, rater_pb2
from konomi_rater.selection.acquisition import Reason
from konomi_rater.storage.comparisons import Comparison
from konomi_rater.storage.image_records import Filter, ImageFacts, ImageRow
from konomi_rater.storage.labels import OWNER, LabelEntry, NewLabel
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.exploration import Discovery
from konomi_rater.usecases.images import Listing
from konomi_rater.usecases.scoring import Diversity, Score
from konomi_rater.usecases.selection import Member, Selection, Wish
from konomi_rater.usecases.vectors import ImageInput

DEFAULT_PAGE = 100


def taste_id(name: str) -> str:
    """Returns the id in "tastes/{id}"; the empty name stays empty."""
    return name.removeprefix("tastes/")


def timestamp(seconds: float) -> Timestamp:
    """Returns Unix seconds as a timestamp."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def taste(row: TasteRow) -> rater_pb2.Taste:
    """Returns a taste."""
    return rater_pb2.Taste(
        name=f"tastes/{row.id}",
        uid=row.uid,
        display_name=row.display_name,
        embedder=row.embedder,
        base_model=row.base_model,
        create_time=timestamp(row.created),
        image_count=row.image_count,
        label_count=row.label_count,
        active_rater_version=version_name(row.id, row.active) if row.active else "",
        next_embedder=row.next_embedder,
    )


def facts(image: rater_pb2.Image) -> ImageFacts:
    """Reads what is said about an image to add."""
    return ImageFacts(
        digest=image.digest,
        source=int(image.source),
        prompt=image.prompt,
        seed=image.seed,
        unit=image.unit,
        night=image.night,
        parents=tuple(image.parents),
        licence=image.licence,
        consent=image.consent,
        parameters=dict(image.parameters),
    )


def image(row: ImageRow, taste: str, found: Score | None = None) -> rater_pb2.Image:
    """Returns an image, with its score where there is one."""
    message = rater_pb2.Image(
        digest=row.facts.digest,
        source=rater_pb2.Source.ValueType(row.facts.source),
        prompt=row.facts.prompt,
        seed=row.facts.seed,
        unit=row.facts.unit,
        night=row.facts.night,
        parents=row.facts.parents,
        licence=row.facts.licence,
        consent=row.facts.consent,
        parameters=dict(row.facts.parameters),
        width=row.width,
        height=row.height,
        create_time=timestamp(row.created),
        grade=rater_pb2.Grade.ValueType(row.grade),
    )
    if found is not None:
        message.score.CopyFrom(score(found, taste))
    return message


def score(found: Score, taste: str) -> rater_pb2.Score:
    """Returns a score, complete."""
    return rater_pb2.Score(
        utility=found.utility,
        std=found.std,
        lower_bound=found.lower_bound,
        grade_probabilities=found.grade_probabilities,
        typicality=found.typicality,
        novelty=found.novelty,
        rater_version=version_name(taste, found.version),
        unknown=found.unknown,
    )


def result(found: Score | KonomiError, taste: str) -> rater_pb2.ScoreResult:
    """Returns a score or what stood against it."""
    if isinstance(found, KonomiError):
        return rater_pb2.ScoreResult(error=item_error(found))
    return rater_pb2.ScoreResult(score=score(found, taste))


def item_error(error: KonomiError) -> artifact_pb2.ItemError:
    """Returns the error of one item of a batch."""
    return artifact_pb2.ItemError(code=error.code.value[0], reason=error.reason, message=error.message)


def diversity(found: Diversity) -> rater_pb2.Diversity:
    """Returns the diversity of a set."""
    return rater_pb2.Diversity(vendi=found.vendi, n=found.n, typical_share=found.typical_share)


def image_input(message: rater_pb2.ImageInput) -> ImageInput:
    """Reads an image given by bytes or digest; one that is empty stays so."""
    if message.WhichOneof("image") == "content":
        return ImageInput(content=message.content)
    return ImageInput(digest=message.digest)


def image_filter(message: rater_pb2.ImageFilter) -> Filter:
    """Reads a filter."""
    return Filter(
        grades=tuple(int(grade) for grade in message.grades),
        units=tuple(message.units),
        sources=tuple(int(source) for source in message.sources),
        nights=tuple(message.nights),
        digests=tuple(message.digests),
        prompt_contains=message.prompt_contains,
        min_utility=message.min_utility if message.HasField("min_utility") else None,
        min_novelty=message.min_novelty if message.HasField("min_novelty") else None,
    )


def listing(message: rater_pb2.ListImagesRequest) -> Listing:
    """Reads what images are asked for."""
    return Listing(
        image_filter(message.filter),
        message.order_by,
        message.page_size or DEFAULT_PAGE,
        message.page_token,
        message.with_scores,
        message.skip,
    )


def new_label(message: rater_pb2.Label) -> NewLabel:
    """Reads a grade to record."""
    return NewLabel(message.image_digest, int(message.grade), message.labeller or OWNER, int(message.reason))


def label(entry: LabelEntry, taste: str) -> rater_pb2.Label:
    """Returns one entry of the log."""
    return rater_pb2.Label(
        name=f"tastes/{taste}/labels/{entry.sequence}",
        image_digest=entry.digest,
        grade=rater_pb2.Grade.ValueType(entry.grade),
        labeller=entry.labeller,
        create_time=timestamp(entry.created),
        sequence=entry.sequence,
        undoes=f"tastes/{taste}/labels/{entry.undoes}" if entry.undoes is not None else "",
        undone=entry.undone,
        reason=rater_pb2.SuggestionReason.ValueType(entry.reason),
    )


def comparison(entry: Comparison, taste: str) -> rater_pb2.Comparison:
    """Returns one entry of the log of comparisons."""
    return rater_pb2.Comparison(
        name=f"tastes/{taste}/comparisons/{entry.sequence}",
        winner_digest=entry.winner,
        loser_digest=entry.loser,
        tie=entry.tie,
        labeller=entry.labeller,
        create_time=timestamp(entry.created),
        undoes=f"tastes/{taste}/comparisons/{entry.undoes}" if entry.undoes is not None else "",
    )


def version_name(taste: str, number: int) -> str:
    """Returns the name of a rater version."""
    return f"tastes/{taste}/raterVersions/{number}"


def taste_in(name: str) -> str:
    """Returns the id of the taste a resource name lies below.

    Raises:
        InvalidArgument: it lies below none.
    """
    if not re.fullmatch(r"tastes/[a-z0-9-]{1,40}/[A-Za-z]+/[A-Za-z0-9._-]{1,64}", name):
        raise InvalidArgument(
            f"expected a name below a taste, found {name[:120]!r}", reason="NAME_INVALID", field="name"
        )
    return name.split("/")[1]


def number_in(name: str, kind: str, field: str = "name") -> int:
    """Returns the number at the end of "tastes/{taste}/{kind}/{number}".

    Raises:
        InvalidArgument: the last part is no number.
    """
    last = name.rpartition("/")[2]
    if not last.isascii() or not last.isdigit() or len(last) > 15:
        raise InvalidArgument(
            f'expected "tastes/{{taste}}/{kind}/{{number}}", found {name[:120]!r}', reason="NAME_INVALID", field=field
        )
    return int(last)


def wish(message: rater_pb2.SelectImagesRequest) -> Wish:
    """Reads what training set is asked for; what is not set takes the contract's default."""
    given = {
        name: getattr(message, name)
        for name in (
            "base_share",
            "kappa",
            "quota",
            "duplicate_cosine",
            "typicality_percentile",
            "false_discovery_rate",
            "near_copy_cosine",
        )
        if message.HasField(name)
    }
    if message.base_units:
        given["base_units"] = tuple(message.base_units)
    return Wish(
        policy=message.policy,
        count=message.count,
        candidates=image_filter(message.candidates),
        seed=message.seed,
        prompt_quota=message.prompt_quota,
        spread=message.spread,
        training_sources=tuple(message.training_sources),
        certificates=tuple(_certificates(message)),
        **given,
    )


def _certificates(message: rater_pb2.SelectImagesRequest) -> list[int]:
    for name in message.certificates:
        if taste_in(name) != taste_id(message.taste):
            raise InvalidArgument(
                f"expected certificates of {message.taste}, found {name[:120]!r}",
                reason="NAME_INVALID",
                field="certificates",
            )
    return [number_in(name, "certificates", "certificates") for name in message.certificates]


def selection(found: Selection, taste: str) -> rater_pb2.SelectImagesResponse:
    """Returns a training set with its accounting."""
    selected = [_member(member, taste, rater_pb2.SELECTION_ROLE_SELECTED) for member in found.chosen]
    selected += [_member(member, taste, rater_pb2.SELECTION_ROLE_BASE) for member in found.base]
    return rater_pb2.SelectImagesResponse(
        selected=selected,
        considered=found.considered,
        rejections=[
            rater_pb2.Rejection(
                digest=digest, reason=rater_pb2.RejectionReason.ValueType(int(reason)), duplicate_of=other
            )
            for digest, reason, other in found.rejections
        ],
        kept_share=found.kept_share,
        pressure_nats=found.pressure_nats,
        rater_version=version_name(taste, found.version) if found.version else "",
        diversity=diversity(found.diversity),
        largest_cell_share=found.largest_cell_share,
        best_of_n_nats=found.best_of_n_nats,
        explanation=found.explanation,
    )


def _member(member: Member, taste: str, role: rater_pb2.SelectionRole.ValueType) -> rater_pb2.SelectedImage:
    message = rater_pb2.SelectedImage(
        digest=member.digest,
        prompt=member.prompt,
        role=role,
        weight=1.0,
        cell=member.cell,
        source=rater_pb2.Source.ValueType(member.source),
        certificate=f"tastes/{taste}/certificates/{member.certificate}" if member.certificate else "",
    )
    if member.score is not None:
        message.score.CopyFrom(score(member.score, taste))
    return message


def slate(found: Sequence[tuple[ImageRow, Reason, int]], taste: str) -> rater_pb2.SuggestImagesResponse:
    """Returns a slate."""
    suggestions = [
        rater_pb2.Suggestion(
            image=image(row, taste), reason=rater_pb2.SuggestionReason.ValueType(int(reason)), region=region
        )
        for row, reason, region in found
    ]
    return rater_pb2.SuggestImagesResponse(suggestions=suggestions)


def discovery(found: Discovery, taste: str) -> rater_pb2.Discovery:
    """Returns what slates have found."""
    return rater_pb2.Discovery(
        islands=[
            rater_pb2.Island(
                region=island.region,
                predicted=found.bets[island.region].predicted,
                median=found.bets[island.region].median,
                shown=island.shown,
                liked=len(island.liked),
                label=f"tastes/{taste}/labels/{island.sequence}",
                digests=island.liked,
            )
            for island in found.tail.islands
        ],
        regions=found.regions,
        registered=len(found.bets),
        unseen_likes=found.tail.unseen_likes,
        liked_showings=found.tail.liked_showings,
        labels_since_island=found.labels_since_island,
    )
