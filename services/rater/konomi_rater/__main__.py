"""Serves the rater: settings to objects to a server; nothing heavy is imported before its port is known to be free."""

import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from konomi_chassis.early_port import leave, parser, refusal

if TYPE_CHECKING:
    from konomi_chassis.server import ServedService
    from konomi_chassis.settings import ServerSettings
    from konomi_chassis.storage.artifacts import ArtifactStore
    from konomi_rater.settings import RaterSettings
    from konomi_rater.usecases.workspace import Workspace


def limit_threads(count: int) -> None:
    """Gives the embedder and FAISS `count` threads and numpy one, for as long as the process lives.

    Threads that fight for a core are slower than one: two of numpy's on the few hundred rows of a fit wait for each
    other as soon as anything else runs, 0.7 s against 2.5 s at 500 labels. With one the result is the same on any
    number of cores. The first thread to set a limit is the only one that can (threadpoolctl 3.8), so it is set here,
    with FAISS loaded where it is installed: a limit is only for libraries that are there.
    """
    from threadpoolctl import threadpool_limits

    from konomi_rater.measures.novelty import faiss

    if find_spec("faiss") is not None:
        faiss()
    threadpool_limits({"openmp": count, "libopenblas": count, "libscipy_openblas": 1})


def _workspace(server: "ServerSettings", store: "ArtifactStore", settings: "RaterSettings") -> "Workspace":
    from functools import partial

    from konomi_chassis.cluster.settings import ScaleSettings
    from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
    from konomi_chassis.settings import DatabaseSettings
    from konomi_chassis.storage.database import open_for_role, open_to_follow
    from konomi_rater.embedding.device import placement
    from konomi_rater.embedding.registry import Embedders
    from konomi_rater.executors.opening import open_executor
    from konomi_rater.replica.following import read_only
    from konomi_rater.storage.schema import SCHEMA
    from konomi_rater.usecases.workspace import Parts, Workspace

    limit_threads(settings.embedder_threads)
    database = DatabaseSettings(home=server.home)
    embedders = Embedders(server.home / "models", placement(settings))
    executor = open_executor(ScaleSettings(home=server.home), embedders, settings)
    return Workspace(
        Parts(
            engine=open_to_follow(database, SCHEMA, partial(read_only, settings.writer))
            if settings.read_only
            else open_for_role(database, SCHEMA),
            store=store,
            decoder=Decoder(DecodeSettings(home=server.home)),
            embedders=embedders,
            settings=settings,
            clock=time.time,
            executor=executor,
        )
    )


def build(server: "ServerSettings", store: "ArtifactStore", *, read_only: bool = False) -> "Sequence[ServedService]":
    """Joins the rater's parts for one home; `read_only` beside the rater that writes, whatever the settings say."""
    from konomi.v1 import rater_pb2_grpc
    from konomi_chassis.server import ServedService
    from konomi_rater.replica.following import Following
    from konomi_rater.replica.rpcs import refusing
    from konomi_rater.servicer.rater import RaterServicer
    from konomi_rater.servicer.rules import RULES
    from konomi_rater.settings import RaterSettings
    from konomi_rater.usecases.rater import Rater

    settings = RaterSettings(home=server.home)
    settings = settings.model_copy(update={"read_only": read_only or settings.read_only})
    workspace = _workspace(server, store, settings)
    with workspace.reading() as connection:
        workspace.label_chains.verify_all(connection)
    following = Following(workspace.follow) if settings.read_only else None
    rater = Rater(workspace, following)
    if following is None:
        rater.resume()
    return [
        ServedService(
            "konomi.v1.RaterService",
            rater_pb2_grpc.add_RaterServiceServicer_to_server,
            RaterServicer(rater),
            RULES,
            warm=workspace.embedders.import_libraries,
            close=rater.close,
            owns_artifact=rater.owns_artifact,
            refuse=refusing(settings.writer) if following is not None else None,
            watch=following.start if following is not None else None,
        )
    ]


def main(argv: Sequence[str]) -> int:
    """Serves until told to stop; returns the exit code."""
    refused = refusal("rater", argv)
    if refused:
        return refused
    from functools import partial

    from konomi_chassis.entrypoint import run
    from konomi_chassis.process import keep_freed_memory

    keep_freed_memory()
    read_only = bool(parser("rater").parse_args(argv).read_only)
    return run("rater", partial(build, read_only=read_only), argv)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
