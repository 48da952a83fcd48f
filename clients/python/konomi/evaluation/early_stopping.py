"""Ends a training run at the checkpoint the rater likes best: the client judges, the trainer only publishes.

Never on the lowest loss: a lower loss says that the set is remembered better, not that the images are liked more. A
run goes on while its win rate over the rival may still rise and is finished at its best checkpoint.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from konomi.client import Client
from konomi.errors import FailedPrecondition
from konomi.i18n.catalogue import text
from konomi.night.metrics import Figure
from konomi.v1 import trainer_pb2 as trainer

Judge = Callable[[str], Figure]
"""Adapter digest → win rate over the rival with its interval, for example of blind pairs scored by the rater."""


@dataclass(frozen=True)
class CheckpointScore:
    """The win rate of a checkpoint."""

    step: int
    win_rate: Figure


def best(verdicts: Sequence[CheckpointScore]) -> CheckpointScore:
    """Returns the verdict with the highest win rate; of equals the earliest, which is the smallest change."""
    return max(verdicts, key=lambda verdict: (verdict.win_rate["value"], -verdict.step))


def enough(verdicts: Sequence[CheckpointScore], patience: int) -> bool:
    """Says whether the best verdict is followed by `patience` that are no better."""
    return bool(verdicts) and sum(verdict.step > best(verdicts).step for verdict in verdicts) >= patience


def conduct(client: Client, run: str, judge: Judge, patience: int = 2) -> trainer.Model:
    """Watches a run, judges what it publishes, and finishes it at its best checkpoint.

    Args:
        client: of trainer, and of whatever the judge needs.
        run: "trainingRuns/{run}", created with `reports.adapters`.
        judge: gives the win rate of an adapter.
        patience: checkpoints without a better one after which the run is ended.

    Returns:
        The run's model, with the figures "win_rate", "win_rate_low", "win_rate_high" and "win_rate_pairs".

    Raises:
        FailedPrecondition: the run published no adapter.
    """
    verdicts: list[CheckpointScore] = []
    with client.trainer.watch_training_run(name=run) as watched:
        for told in watched:
            for checkpoint in told.checkpoints[len(verdicts) :]:
                verdicts.append(CheckpointScore(checkpoint.step, judge(checkpoint.adapter_digest)))
            if enough(verdicts, patience):
                break
    if not verdicts:
        raise FailedPrecondition(
            text("expected a run that publishes adapters at its checkpoints; it published none"),
            reason="CHECKPOINT_NOT_FOUND",
        )
    chosen = best(verdicts)
    rate = chosen.win_rate
    figures = {
        "win_rate": rate["value"], "win_rate_low": rate["low"], "win_rate_high": rate["high"],
        "win_rate_pairs": rate["n"],
    }  # fmt: skip
    ended = client.trainer.finish_training_run(
        name=run, step=chosen.step, metrics=figures, request_id=str(uuid.uuid4())
    )
    return client.trainer.get_model(name=ended.model)
