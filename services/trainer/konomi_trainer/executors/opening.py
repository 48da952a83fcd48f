"""From the settings to who trains runs elsewhere, or the words that say why nobody can."""

import os
from importlib.util import find_spec
from pathlib import Path

from konomi.errors import FailedPrecondition
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.settings import StoreSettings
from konomi_trainer.jobs.shared_checkpoints import CheckpointStore
from konomi_trainer.jobs.trainer import RunTrainer
from konomi_trainer.settings import TrainerSettings


def open_cluster_trainer(home: Path, settings: TrainerSettings, store: CheckpointStore) -> RunTrainer | None:
    """Returns who trains runs on a Ray cluster, None where the machine of the service trains them itself.

    Args:
        home: of the service; every machine of the cluster has one at the same path.
        settings: of the trainer, by which runs are trained wherever that is.
        store: where checkpoints and adapters are.

    Returns:
        What has the same interface as `OwnProcessTrainer`.

    Raises:
        FailedPrecondition: Ray is not installed; there is no cluster, anybody could use it, or its machines have no
            store in common.
    """
    scale = ScaleSettings(home=home)
    if scale.train_executor == "local":
        return None
    if find_spec("ray") is None:
        raise FailedPrecondition(
            "[scale] train_executor is \"ray\", and Ray is not installed; run: pip install 'konomi[trainer,ray]'",
            reason="MISSING_EXTRA",
        )
    from konomi_trainer.executors.cluster_trainer import ClusterTrainer

    return ClusterTrainer(scale, settings, StoreSettings(home=home), store, os.environ)
