"""The part of RaterService that explores a taste's space and changes what spans it: novelty, elites, embedders."""

from collections.abc import Iterator

import grpc
import sqlalchemy

from konomi.v1 import rater_pb2
from konomi_rater.preference.fitting import Step
from konomi_rater.servicer import messages
from konomi_rater.servicer.messages import taste_id
from konomi_rater.servicer.versions import VersionServicer
from konomi_rater.storage import tastes
from konomi_rater.usecases.embedders import Changed
from konomi_rater.usecases.exploration import EliteArchive


class EmbedderServicer(VersionServicer):
    """Serves novelty search and changes of embedder."""

    def ExploreNovelty(
        self, request: rater_pb2.ExploreNoveltyRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ExploreNoveltyResponse:
        """Finds the far and plausible, and the elites."""
        taste = taste_id(request.taste)
        findings, archive = self._rater.exploring.explore(
            taste, messages.image_filter(request.filter), request.count or 10, request.cells, request.seed
        )
        reply = rater_pb2.ExploreNoveltyResponse(
            images=[messages.image(found.image, taste, found.score) for found in findings],
            findings=[
                rater_pb2.NoveltyFinding(
                    digest=found.image.facts.digest, novelty=found.novelty, local_rank=found.local_rank
                )
                for found in findings
            ],
        )
        if archive is not None:
            reply.archive.CopyFrom(_archive(archive, taste))
        discovery = self._rater.slating.discovery(taste)
        if discovery is not None:
            reply.discovery.CopyFrom(messages.discovery(discovery, taste))
        return reply

    def AdviseEmbedder(
        self, request: rater_pb2.AdviseEmbedderRequest, context: grpc.ServicerContext
    ) -> rater_pb2.EmbedderAdvice:
        """Says whether the embedder fits."""
        found = self._rater.advising.advise(taste_id(request.taste))
        return rater_pb2.EmbedderAdvice(
            embedder=found.embedder,
            foreign_share=found.foreign_share,
            n=found.n,
            change=found.change,
            offers=[
                rater_pb2.EmbedderOffer(embedder=offer.embedder, reads_text=offer.reads_text) for offer in found.offers
            ],
        )

    def ChangeEmbedder(
        self, request: rater_pb2.ChangeEmbedderRequest, context: grpc.ServicerContext
    ) -> Iterator[rater_pb2.ChangeEmbedderResponse]:
        """Changes the embedder: progress, then the taste."""
        with self._rater.workspace.writing() as connection:
            first = self._idempotency.replay(connection, "ChangeEmbedder", request)
        if first is not None:
            yield rater_pb2.ChangeEmbedderResponse.FromString(first)
            return
        taste, embedder = taste_id(request.taste), request.embedder or "starter"
        self._rater.reembedding.begin(taste, embedder, request.seed)
        for step in self._rater.reembedding.watch(taste, embedder):
            if isinstance(step, Step):
                progress = rater_pb2.Progress(phase=step.phase, done=step.done, total=step.total)
                yield rater_pb2.ChangeEmbedderResponse(progress=progress)
                continue

            def work(connection: sqlalchemy.Connection, done: Changed = step) -> rater_pb2.ChangeEmbedderResponse:
                reply = rater_pb2.ChangeEmbedderResponse(taste=messages.taste(done.taste))
                if done.version:
                    row = tastes.read_version(connection, done.taste.id, done.version)
                    reply.rater_version.CopyFrom(self._version(connection, row))
                return reply

            yield self._once("ChangeEmbedder", request, rater_pb2.ChangeEmbedderResponse(), work)


def _archive(found: EliteArchive, taste: str) -> rater_pb2.EliteArchive:
    return rater_pb2.EliteArchive(
        elites=[
            rater_pb2.Elite(cell=cell, image=messages.image(image, taste, score)) for cell, image, score in found.elites
        ],
        cells=found.cells,
        coverage=found.coverage,
        qd_score=found.qd_score,
        diversity=messages.diversity(found.diversity),
    )
