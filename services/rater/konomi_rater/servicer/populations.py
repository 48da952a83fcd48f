"""The rpcs about what other people like: learn it, list it, remove it."""

import hashlib

import grpc
import numpy as np
import sqlalchemy

from konomi.v1 import rater_pb2
from konomi_chassis.rpc.pagination import page
from konomi_chassis.storage.idempotency import payload_digest
from konomi_rater.preference.population.crowd import Ratings
from konomi_rater.preference.population.file import Population
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage.consents import NOTHING, RevokedTeaching
from konomi_rater.usecases.fitting.populations import PopulationRequest, RatingGroup

MOST_NAMED = 1000
"""Absent images that are named one by one; what is beyond is counted."""
NAME = "populations/"


class PopulationServicer(ServicerPart):
    """Serves populations."""

    def FitPopulation(
        self, request: rater_pb2.FitPopulationRequest, context: grpc.ServicerContext
    ) -> rater_pb2.FitPopulationResponse:
        """Learns a population; the answer leaves only when its file is durable."""
        first = self._first_answer("FitPopulation", request, rater_pb2.FitPopulationResponse())
        if first is not None:
            return first
        fitted = self._rater.populations.fit(_request(request))
        reply = rater_pb2.FitPopulationResponse(
            population=_population(fitted.population),
            unheard_count=fitted.unheard,
            absent_count=len(fitted.absent),
            absent=[place for place in fitted.absent if place < len(request.digests)][:MOST_NAMED],
        )
        return self._keep_answer("FitPopulation", request, reply)

    def ListPopulations(
        self, request: rater_pb2.ListPopulationsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListPopulationsResponse:
        """Lists populations; the page token is the last name."""
        listed = page(
            request.page_size,
            lambda limit: self._rater.populations.read_all(request.page_token, limit),
            lambda listed: listed.population.name,
        )
        return rater_pb2.ListPopulationsResponse(
            populations=[_population(one.population, one.revoked) for one in listed.rows],
            next_page_token=listed.next_token,
        )

    def RemovePopulation(
        self, request: rater_pb2.RemovePopulationRequest, context: grpc.ServicerContext
    ) -> rater_pb2.Population:
        """Removes a population and returns what it was."""

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Population:
            return _population(self._rater.populations.remove(connection, request.name.removeprefix(NAME)))

        return self._answer_once("RemovePopulation", request, rater_pb2.Population(), work)


def _request(message: rater_pb2.FitPopulationRequest) -> PopulationRequest:
    return PopulationRequest(
        name=message.name.removeprefix(NAME),
        taste=taste_id(message.taste),
        digests=list(message.digests),
        groups=[
            RatingGroup(
                group.kind,
                group.consent,
                [Ratings(np.array(one.images, np.int64), np.array(one.values, np.float64)) for one in group.people],
                tuple(group.members),
            )
            for group in message.groups
        ],
        tastes=[(taste_id(given.taste), given.consent) for given in message.tastes],
        key=_key(message) if message.request_id else "",
    )


def _key(message: rater_pb2.FitPopulationRequest) -> str:
    """Returns the sha256 of a request, its id included."""
    said = f"{message.request_id.lower()} {payload_digest('FitPopulation', message)}"
    return hashlib.sha256(said.encode()).hexdigest()


def _population(population: Population, revoked: RevokedTeaching = NOTHING) -> rater_pb2.Population:
    record = population.record
    message = rater_pb2.Population(
        name=f"{NAME}{population.name}",
        digest=population.digest,
        embedder=population.embedder,
        rater_count=record.raters,
        rating_count=record.ratings,
        image_count=record.images,
        sources=[
            rater_pb2.PopulationSource(kind=source.kind, rater_count=source.raters, consent=source.consent)
            for source in record.sources
        ],
        revoked_image_count=revoked.images,
        revoked_rating_count=revoked.ratings,
    )
    if record.srcc is not None:
        message.srcc.CopyFrom(messages.estimate(record.srcc))
    if record.created:
        message.create_time.CopyFrom(messages.timestamp(record.created))
    return message
