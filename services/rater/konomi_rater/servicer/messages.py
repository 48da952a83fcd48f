"""Messages and names that more than one part of the servicer reads or writes."""

import re

from google.protobuf.timestamp_pb2 import Timestamp

from konomi.errors import InvalidArgument, KonomiError
from konomi.v1 import artifact_pb2, rater_pb2
from konomi_rater.preference.fitting import Step
from konomi_rater.preference.metrics import Estimate
from konomi_rater.preference.population.benefit import Benefit
from konomi_rater.preference.promotion import Diff
from konomi_rater.storage.image_records import Filter, ImageRow
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.fitting.versions import Described
from konomi_rater.usecases.scoring import Diversity, Score
from konomi_rater.usecases.vectors import ImageInput


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
        second_embedder=row.second_embedder,
    )


def image(row: ImageRow, taste: str, scored: Score | None = None) -> rater_pb2.Image:
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
        path=row.facts.path,
        parameters=dict(row.facts.parameters),
        elsewhere_model=row.facts.elsewhere_model,
        width=row.width,
        height=row.height,
        create_time=timestamp(row.created),
        grade=rater_pb2.Grade.ValueType(row.grade),
        pixels_collected=row.without_pixels,
    )
    if scored is not None:
        message.score.CopyFrom(score(scored, taste))
    return message


def score(scored: Score, taste: str) -> rater_pb2.Score:
    """Returns a score, complete."""
    return rater_pb2.Score(
        utility=scored.utility,
        std=scored.std,
        lower_bound=scored.lower_bound,
        grade_probabilities=scored.grade_probabilities,
        typicality=scored.typicality,
        novelty=scored.novelty,
        rater_version=version_name(taste, scored.version),
        unknown=scored.unknown,
        signature=scored.signature,
        near_copy_utility=scored.near_copy_utility,
    )


def item_error(error: KonomiError) -> artifact_pb2.ItemError:
    """Returns the error of one item of a batch."""
    return artifact_pb2.ItemError(code=error.code.value[0], reason=error.reason, message=error.message)


def diversity(measured: Diversity) -> rater_pb2.Diversity:
    """Returns the diversity of a set."""
    return rater_pb2.Diversity(vendi=measured.vendi, n=measured.n, typical_share=measured.typical_share)


def population_use(benefit: Benefit) -> rater_pb2.PopulationUse:
    """Returns what a population added to a version."""
    return rater_pb2.PopulationUse(
        name=f"populations/{benefit.name}",
        digest=benefit.digest,
        used=benefit.used,
        srcc=benefit.srcc,
        srcc_without=benefit.srcc_without,
        gain=estimate(benefit.gain),
        nats=benefit.nats,
    )


def estimate(figure: Estimate) -> rater_pb2.Estimate:
    """Returns a figure with its interval."""
    return rater_pb2.Estimate(value=figure.value, low=figure.low, high=figure.high, n=figure.n)


def progress(step: Step) -> rater_pb2.Progress:
    """Returns how far long work is."""
    return rater_pb2.Progress(phase=step.phase, done=step.done, total=step.total)


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
        path_contains=message.path_contains,
    )


def version_name(taste: str, number: int) -> str:
    """Returns the name of a rater version."""
    return f"tastes/{taste}/raterVersions/{number}"


def version_asked(taste: str, name: str) -> int:
    """Returns the number of the rater version a request names; 0 where it names none.

    Raises:
        InvalidArgument: it is a version of another taste.
    """
    if not name:
        return 0
    if taste_in(name) != taste_id(taste):
        raise InvalidArgument(
            f"expected a rater version of {taste[:120] or 'the taste that scores'}, found {name[:120]!r}; "
            "name the taste, and a version of it",
            reason="NAME_INVALID",
            field="rater_version",
        )
    return number_in(name, "raterVersions", "rater_version")


def rater_version(described: Described) -> rater_pb2.RaterVersion:
    """Returns a rater version with what is known of it now."""
    row = described.row
    message = rater_pb2.RaterVersion(
        name=version_name(row.taste, row.number),
        create_time=timestamp(row.created),
        label_count=row.label_count,
        comparison_count=row.comparison_count,
        head=row.head,
        embedder=row.embedder,
        metrics={name: estimate(figure) for name, figure in row.metrics.items()},
        active=described.active,
        artifact_digest=row.artifact,
        label_digest=row.label_digest,
        held_out_count=described.held_out,
        candidates=dict(row.candidates),
        alarms=[str(alarm) for alarm in described.alarms],
        alarm_details=[
            rater_pb2.Alarm(name=alarm.name, numbers=alarm.numbers, words=alarm.words) for alarm in described.alarms
        ],
    )
    message.populations.extend(population_use(benefit) for benefit in row.populations)
    if described.diff is not None:
        message.diff.CopyFrom(_diff(described.diff, row.taste))
    if described.pending or described.comparison is not None:
        message.embedder_comparison.CopyFrom(_embedder_comparison(described))
    if described.pressure is not None:
        pressure = described.pressure
        message.pressure.CopyFrom(
            rater_pb2.Pressure(
                nats=pressure.nats, best_of_n_nats=pressure.best_of_n_nats, selections=pressure.selections
            )
        )
    return message


def _embedder_comparison(described: Described) -> rater_pb2.EmbedderComparison:
    found = described.comparison
    if described.pending or found is None:
        own = described.row.embedder
        return rater_pb2.EmbedderComparison(embedder=own, second=described.pending, pending=True)
    message = rater_pb2.EmbedderComparison(embedder=found.embedder, second=found.second, label_count=found.n)
    for name in ("srcc", "second_srcc", "gain"):
        figure = getattr(found, name)
        if figure is not None:
            getattr(message, name).CopyFrom(estimate(figure))
    return message


def _diff(diff: Diff, taste: str) -> rater_pb2.VersionDiff:
    message = rater_pb2.VersionDiff(
        against=version_name(taste, diff.against),
        verdict=rater_pb2.VersionVerdict.ValueType(int(diff.verdict)),
        labels_changed=diff.labels_changed,
    )
    for name in ("srcc", "earlier_srcc", "gain"):
        figure = getattr(diff, name)
        if figure is not None:
            getattr(message, name).CopyFrom(estimate(figure))
    return message


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
