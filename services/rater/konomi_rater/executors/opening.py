"""From the settings to who embeds the images of tastes, or the words that say why nobody can.

Ray is looked for and not imported here: it takes seconds, and a rater that embeds by itself never needs it.
"""

import os
from importlib.util import find_spec

from konomi.errors import FailedPrecondition
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.settings import StoreSettings
from konomi_rater.embedding.registry import Embedders
from konomi_rater.embedding.requests import EmbeddingExecutor
from konomi_rater.settings import RaterSettings


def open_executor(settings: ScaleSettings, embedders: Embedders, own: RaterSettings) -> EmbeddingExecutor | None:
    """Returns who embeds the images that join a taste; None for the queue of this process.

    A rater that only reads embeds none. Whoever gets an executor closes it; it joins the cluster with the first images,
    so that a rater serves labels and scores while there is no cluster. What is wrong with cluster, store or an actor
    is therefore said with these images (CLUSTER_MISSING, CLUSTER_OPEN, STORE_NOT_SHARED, ACTOR_FAILED,
    EMBEDDER_DIFFERS), and only that Ray is not installed before anything is served.

    Args:
        settings: who it is to be, and where.
        embedders: of this process.
        own: the rater's settings, which actors get too.

    Raises:
        FailedPrecondition: Ray is not installed.
    """
    if settings.embed_executor == "local" or own.read_only:
        return None
    if find_spec("ray") is None:
        raise FailedPrecondition(
            "[scale] embed_executor is \"ray\", and Ray is not installed; run: pip install 'konomi[ray]'",
            reason="MISSING_EXTRA",
        )
    from konomi_rater.executors.ray_executor import RayEmbedding

    return RayEmbedding(embedders, settings, own, StoreSettings(home=own.home), os.environ)
