"""The rpcs that choose among a taste's images: what to grade next, what to train on, what is far and plausible."""

from collections.abc import Sequence
from typing import Any

import grpc

from konomi.errors import InvalidArgument
from konomi.v1 import rater_pb2
from konomi_rater.selection.acquisition import SuggestionReason
from konomi_rater.selection.propagation import GrowthOutcome
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import tastes
from konomi_rater.storage.image_records import ImageRow
from konomi_rater.usecases.exploration import Discovery, EliteArchive
from konomi_rater.usecases.fitting import versions
from konomi_rater.usecases.propagation import GrowthRequest
from konomi_rater.usecases.selection import AvoidedImage, SelectedImage, Selection, SelectionRequest

PROPAGATE = "propagate"
"""The policy under which a set grows by itself; all others are tables of `selection.selection`."""


class SelectionServicer(ServicerPart):
    """Serves suggestions, training sets and novelty search."""

    def SuggestImages(
        self, request: rater_pb2.SuggestImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.SuggestImagesResponse:
        """Suggests what to grade next."""
        taste, admitted = taste_id(request.taste), messages.image_filter(request.filter)
        if request.slate:
            self._rater.workspace.check_writable()  # what a slate showed is kept
            drawn = self._rater.slating.draw(taste, admitted, request.count, request.seed)
            return _suggestions([(row, reason, region) for row, reason, region in drawn], taste)
        suggested = self._rater.suggesting.suggest(
            taste, admitted, request.count or 10, request.novel, request.seed, repeats=not request.no_repeats
        )
        return _suggestions([(row, reason, None) for row, reason in suggested], taste)

    def SelectImages(
        self, request: rater_pb2.SelectImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.SelectImagesResponse:
        """Selects a training set."""
        taste = taste_id(request.taste)
        if request.policy == PROPAGATE:
            if request.avoid:
                raise InvalidArgument(
                    'expected avoid with a policy whose set is trained on at once, not with "propagate", whose set '
                    "grows; leave it out",
                    reason="AVOID_UNUSED",
                    field="avoid",
                )
            selection = self._rater.growing.grow(taste, _growth_request(request))
        else:
            selection = self._rater.selecting.select(taste, _selection_request(request))
        with self._rater.workspace.writing() as connection:
            now = self._rater.workspace.clock()
            versions.remember_selection(connection, taste, selection, request.policy, now, request.purpose)
        reply = _selection(selection, taste)
        if selection.growth is not None:
            reply.growth.CopyFrom(_growth(selection.growth))
        return reply

    def ReleaseSelections(
        self, request: rater_pb2.ReleaseSelectionsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ReleaseSelectionsResponse:
        """Forgets choices whose units are not in use."""
        taste = taste_id(request.taste)
        with self._rater.workspace.writing() as connection:
            tastes.read(connection, taste)
            return rater_pb2.ReleaseSelectionsResponse(
                released=versions.release_selections(connection, taste, request.purposes)
            )

    def ExploreNovelty(
        self, request: rater_pb2.ExploreNoveltyRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ExploreNoveltyResponse:
        """Finds the far and plausible, and the elites."""
        taste = taste_id(request.taste)
        findings, archive = self._rater.exploring.explore(
            taste, messages.image_filter(request.filter), request.count or 10, request.cells, request.seed
        )
        reply = rater_pb2.ExploreNoveltyResponse(
            images=[messages.image(finding.image, taste, finding.score) for finding in findings],
            findings=[
                rater_pb2.NoveltyFinding(
                    digest=finding.image.facts.digest, novelty=finding.novelty, local_rank=finding.local_rank
                )
                for finding in findings
            ],
        )
        if archive is not None:
            reply.archive.CopyFrom(_archive(archive, taste))
        discovery = self._rater.slating.discovery(taste)
        if discovery is not None:
            reply.discovery.CopyFrom(_discovery(discovery, taste))
        return reply


def _selection_request(message: rater_pb2.SelectImagesRequest) -> SelectionRequest:
    """Reads what training set is asked for; what is not set takes the contract's default."""
    given = _given(
        message,
        "base_share",
        "kappa",
        "quota",
        "duplicate_cosine",
        "typicality_percentile",
        "false_discovery_rate",
        "near_copy_cosine",
    )
    return SelectionRequest(
        policy=message.policy,
        count=message.count,
        candidates=messages.image_filter(message.candidates),
        seed=message.seed,
        prompt_quota=message.prompt_quota,
        spread=message.spread,
        training_sources=tuple(message.training_sources),
        certificates=tuple(_certificates(message)),
        fill_to=message.fill_to,
        version=messages.version_asked(message.taste, message.rater_version),
        avoid=message.avoid,
        **given,
    )


def _given(request: rater_pb2.SelectImagesRequest, *names: str) -> dict[str, Any]:
    """Returns the fields that are set, of those named and the base model's units."""
    present = {field.name: value for field, value in request.ListFields()}
    given = {name: present[name] for name in names if name in present}
    return given | ({"base_units": tuple(request.base_units)} if request.base_units else {})


def _certificates(message: rater_pb2.SelectImagesRequest) -> list[int]:
    for name in message.certificates:
        if messages.taste_in(name) != taste_id(message.taste):
            raise InvalidArgument(
                f"expected certificates of {message.taste}, found {name[:120]!r}",
                reason="NAME_INVALID",
                field="certificates",
            )
    return [messages.number_in(name, "certificates", "certificates") for name in message.certificates]


def _selection(selection: Selection, taste: str) -> rater_pb2.SelectImagesResponse:
    """Returns a training set with its accounting."""
    chosen = [*selection.chosen, *selection.filled]
    selected = [_member(member, taste, rater_pb2.SELECTION_ROLE_SELECTED) for member in chosen]
    selected += [_member(member, taste, rater_pb2.SELECTION_ROLE_BASE) for member in selection.base]
    reply = rater_pb2.SelectImagesResponse(
        selected=selected,
        considered=selection.considered,
        rejections=[
            rater_pb2.Rejection(
                digest=digest, reason=rater_pb2.RejectionReason.ValueType(int(reason)), duplicate_of=other
            )
            for digest, reason, other in selection.rejections
        ],
        kept_share=selection.kept_share,
        pressure_nats=selection.pressure_nats,
        rater_version=messages.version_name(taste, selection.version) if selection.version else "",
        diversity=messages.diversity(selection.diversity),
        largest_cell_share=selection.largest_cell_share,
        best_of_n_nats=selection.best_of_n_nats,
        avoided=[_avoided(image, taste) for image in selection.avoided],
        avoided_share=selection.avoided_share,
        avoided_nats=selection.avoided_nats,
    )
    if selection.explanation is not None:
        reply.explanation = str(selection.explanation)
        reply.explanation_details.name = selection.explanation.name
        reply.explanation_details.numbers.update(selection.explanation.numbers)
    return reply


def _member(member: SelectedImage, taste: str, role: rater_pb2.SelectionRole.ValueType) -> rater_pb2.SelectedImage:
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
        message.score.CopyFrom(messages.score(member.score, taste))
    return message


def _avoided(image: AvoidedImage, taste: str) -> rater_pb2.AvoidedImage:
    """Returns an image to turn away from, with its reason."""
    message = rater_pb2.AvoidedImage(
        digest=image.facts.digest,
        prompt=image.facts.prompt,
        reason=rater_pb2.AvoidanceReason.ValueType(int(image.reason)),
        weight=1.0,
        upper_bound=image.upper_bound,
        unit=image.facts.unit,
    )
    if image.score is not None:
        message.score.CopyFrom(messages.score(image.score, taste))
    return message


def _suggestions(
    drawn: Sequence[tuple[ImageRow, SuggestionReason, int | None]], taste: str
) -> rater_pb2.SuggestImagesResponse:
    """Returns images to grade, each with its reason; those of a slate also with their region."""
    return rater_pb2.SuggestImagesResponse(
        suggestions=[
            rater_pb2.Suggestion(
                image=messages.image(row, taste),
                reason=rater_pb2.SuggestionReason.ValueType(int(reason)),
                region=region,
            )
            for row, reason, region in drawn
        ]
    )


def _growth_request(message: rater_pb2.SelectImagesRequest) -> GrowthRequest:
    """Reads what a set shall grow from; what is not set takes the contract's default."""
    given = _given(message, "kappa", "near_copy_cosine", "duplicate_cosine", "typicality_percentile")
    return GrowthRequest(
        originals=tuple(dict.fromkeys(message.originals)),
        members=tuple(dict.fromkeys(message.members)),
        count=message.count,
        candidates=messages.image_filter(message.candidates),
        version=messages.version_asked(message.taste, message.rater_version),
        **given,
    )


def _growth(growth: GrowthOutcome) -> rater_pb2.Growth:
    """Returns the gate and how the candidates lay to it."""
    return rater_pb2.Growth(
        low=growth.allowed.low,
        high=growth.allowed.high,
        mean_cosine=growth.mean_cosine,
        standard_error=growth.standard_error,
        passed=growth.passed,
        liked=growth.liked,
        cosines=[float(growth.cosines[row]) for row in growth.taken],
    )


def _archive(archive: EliteArchive, taste: str) -> rater_pb2.EliteArchive:
    return rater_pb2.EliteArchive(
        elites=[
            rater_pb2.Elite(cell=cell, image=messages.image(image, taste, score))
            for cell, image, score in archive.elites
        ],
        cells=archive.cells,
        coverage=archive.coverage,
        qd_score=archive.qd_score,
        diversity=messages.diversity(archive.diversity),
    )


def _discovery(discovery: Discovery, taste: str) -> rater_pb2.Discovery:
    """Returns what slates have found."""
    return rater_pb2.Discovery(
        islands=[
            rater_pb2.Island(
                region=island.region,
                predicted=discovery.bets[island.region].predicted,
                median=discovery.bets[island.region].median,
                shown=island.shown,
                liked=len(island.liked),
                label=f"tastes/{taste}/labels/{island.sequence}",
                digests=island.liked,
            )
            for island in discovery.tail.islands
        ],
        regions=discovery.regions,
        registered=len(discovery.bets),
        unseen_likes=discovery.tail.unseen_likes,
        liked_showings=discovery.tail.liked_showings,
        labels_since_island=discovery.labels_since_island,
    )
