"""The one training loop: resume, accumulate, clip, skip what is not finite, average, checkpoint, report.

The loop draws nothing itself. The loss of a step depends on the step's number and the weights alone, so a run
that was killed and resumed from a checkpoint ends in the very bytes of an unbroken one (on a CPU).
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import torch

from konomi.errors import FailedPrecondition, ResourceExhausted
from konomi_chassis.memory_shortage import give_back, is_shortage, numbers_text
from konomi_trainer.training.checkpoints import Checkpoint, Checkpoints
from konomi_trainer.training.optimizers import make_optimizer
from konomi_trainer.training.ranks import Alone, Ranks

log = logging.getLogger(__name__)
Loss = Callable[[int, range], torch.Tensor]
"""(step, rows of the step's batch) → scalar; the parts of a batch sum to the loss of the whole."""

BAD_STEPS_TO_ROLL_BACK, ROLLBACKS_ALLOWED, MEAN_OVER = 3, 1, 10
STEPS_TO_DOUBLE = 2000
"""Good steps after which the loss scale doubles, as torch's GradScaler has it."""


class Stopped(Exception):
    """The run was asked to stop; what the last checkpoint holds stays."""


class Diverged(FailedPrecondition):
    """The loss stopped being a number again after the rate was halved."""

    default_reason = "DIVERGED"


@dataclass(frozen=True)
class LoopSettings:
    """The numbers of the loop: see HyperParameters in trainer.proto.

    Attributes:
        rows: the batch of one optimiser step.
        loss_scale: what losses of fp16 begin to be multiplied with, so that gradients are no zeros; 1 never is.
        shares: share of the learning rate by name of weight; 1 for the others.
    """

    steps: int
    rows: int
    micro: int
    learning_rate: float
    max_grad_norm: float
    ema_decay: float
    checkpoint_steps: int
    loss_scale: float = 1.0
    optimizer: str = "adamw"
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Progress:
    """Where a run stands; stored in every checkpoint as plain numbers.

    Attributes:
        step: optimiser steps done, skipped ones included.
        micro: rows that go through the network at once; halved when memory runs out.
        checkpointing: activations are made twice since memory ran out for a single row.
        scale: what losses are multiplied with now; it halves where a gradient is not finite, and is 1 at least.
        good: steps in a row that were taken at this scale.
        bad: steps in a row whose loss or gradient was not finite.
        skipped: such steps in all.
        rollbacks: times the run went back to a checkpoint and halved its rate.
        losses: loss of every step; None where it was not finite.
    """

    micro: int
    step: int = 0
    bad: int = 0
    skipped: int = 0
    rollbacks: int = 0
    losses: list[float | None] = field(default_factory=list)
    checkpointing: bool = False
    scale: float = 1.0
    good: int = 0

    def mean_loss(self) -> float:
        """Returns the mean over the last finite losses, 0 before the first."""
        recent = [loss for loss in self.losses[-MEAN_OVER:] if loss is not None]
        return sum(recent) / len(recent) if recent else 0.0


def rate(step: int, settings: LoopSettings) -> float:
    """Returns the share of the peak rate at a step: a tenth of the way up, level, the last fifth down to a tenth."""
    up = max(1, min(10, settings.steps // 10))
    left = (settings.steps - step) / max(1, settings.steps // 5)
    return min(1.0, (step + 1) / up, 0.1 + 0.9 * left)


class Learner:
    """Trainable weights with their optimiser and, where asked for, their average."""

    def __init__(self, weights: Mapping[str, torch.nn.Parameter], settings: LoopSettings) -> None:
        """Takes the weights by name; they are changed in place."""
        self.weights = dict(sorted(weights.items()))
        self.decay = settings.ema_decay
        self.average = {name: w.detach().clone() for name, w in self.weights.items()} if self.decay else {}
        groups: dict[float, list[torch.nn.Parameter]] = {}
        for name, weight in self.weights.items():
            groups.setdefault(settings.shares.get(name, 1.0), []).append(weight)
        parts = [{"params": members, "share": share} for share, members in groups.items()]
        self.optimizer = make_optimizer(settings.optimizer, parts, settings.learning_rate)

    def update(self, learning_rate: float, step: int) -> None:
        """Takes one optimiser step and moves the average after it."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["share"]
        self.optimizer.step()
        decay = min(self.decay, (1 + step) / (10 + step))
        if self.average:
            current = [self.weights[name].detach() for name in self.average]
            torch._foreach_lerp_(list(self.average.values()), current, 1 - decay)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns everything a resumed run needs, by name."""
        tensors = {f"weight/{name}": w.detach() for name, w in self.weights.items()}
        tensors |= {f"average/{name}": mean for name, mean in self.average.items()}
        for name, weight in self.weights.items():
            for key, value in self.optimizer.state.get(weight, {}).items():
                plain = not isinstance(value, torch.Tensor)
                tensors[f"{'number' if plain else 'optimizer'}/{key}/{name}"] = torch.tensor(value) if plain else value
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Puts back what `tensors` gave."""
        self.optimizer.state.clear()
        for name, weight in self.weights.items():
            weight.copy_(tensors[f"weight/{name}"])
            if name in self.average:
                self.average[name].copy_(tensors[f"average/{name}"])
            state: dict[str, torch.Tensor | float] = {}
            for path, value in tensors.items():
                kind, _, rest = path.partition("/")
                key, _, owner = rest.partition("/")
                if owner == name and kind in ("optimizer", "number"):
                    state[key] = value.item() if kind == "number" else value.to(weight.device)
            if state:
                self.optimizer.state[weight] = state

    def result(self) -> dict[str, torch.Tensor]:
        """Returns the weights to keep: the average where there is one."""
        return {name: (self.average.get(name, w)).detach().clone() for name, w in self.weights.items()}


@dataclass(frozen=True)
class Surroundings:
    """What a loop talks to.

    Attributes:
        report: called after every step.
        stopping: asked before every step; True ends the run at once.
        ranks: the processes that train together.
        checkpoint_activations: makes activations twice instead of keeping them; False where that saves nothing more.
    """

    report: Callable[[Progress], None]
    stopping: Callable[[], bool]
    ranks: Ranks = field(default_factory=Alone)
    checkpoint_activations: Callable[[], bool] = lambda: False


def train(
    weights: Mapping[str, torch.nn.Parameter],
    loss: Loss,
    settings: LoopSettings,
    checkpoints: Checkpoints,
    surroundings: Surroundings,
) -> tuple[dict[str, torch.Tensor], Progress]:
    """Trains `weights` in place from the newest checkpoint on, or from the start.

    Args:
        weights: trainable parameters by name.
        loss: loss of some rows of a step's batch; a function of the step and the weights alone.
        settings: the numbers of the loop.
        checkpoints: where the run is kept.
        surroundings: who hears of it, who may stop it and who takes part.

    Returns:
        The trained weights by name (their average where one is kept), and the last progress.

    Raises:
        Stopped: the surroundings said so.
        Diverged: the loss was not finite three times in a row, twice.
        ResourceExhausted: a single row does not fit into memory.
    """
    learner, ranks = Learner(weights, settings), surroundings.ranks
    progress = _start(learner, settings, checkpoints)
    if progress.checkpointing:
        surroundings.checkpoint_activations()
    while progress.step < settings.steps:
        if ranks.any(surroundings.stopping()):
            raise Stopped
        value = _gradients(learner, loss, settings, progress, surroundings)
        if not _apply(learner, value, settings, progress):
            continue
        progress = _keep(learner, settings, checkpoints, progress)
        surroundings.report(progress)
    result = learner.result()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in result.values()):
        raise Diverged("expected finite weights at the end of the run; some are not: lower the learning rate")
    return result, progress


def _start(learner: Learner, settings: LoopSettings, checkpoints: Checkpoints) -> Progress:
    """Goes on from the newest checkpoint, or saves the first one."""
    newest = checkpoints.newest()
    if newest is not None:
        return _resume(learner, newest, settings)
    progress = Progress(settings.micro, scale=settings.loss_scale)
    checkpoints.save(0, learner.tensors(), asdict(progress))
    return progress


def _gradients(
    learner: Learner, loss: Loss, settings: LoopSettings, progress: Progress, surroundings: Surroundings
) -> torch.Tensor:
    """Leaves the gradients of one step in the weights and returns its loss, in smaller parts when memory is short.

    The loss is a float64 scalar on the device: to read it here would wait for the device.
    """
    ranks = surroundings.ranks
    while True:
        learner.optimizer.zero_grad()
        value = _accumulate(loss, learner, progress, ranks.share(settings.rows))
        if not ranks.any(value is None) and value is not None:
            return ranks.total(value, learner.weights.values())
        learner.optimizer.zero_grad()
        _save_memory(learner, progress, surroundings)


def _save_memory(learner: Learner, progress: Progress, surroundings: Surroundings) -> None:
    """Goes one step down: fewer rows at once, then activations made twice.

    Raises:
        ResourceExhausted: there is no further step; the sentence says how much memory there is.
    """
    if torch.cuda.is_available():
        give_back()
    if progress.micro > 1:
        progress.micro = max(1, progress.micro // 2)
        log.warning("memory ran out at step %d: %d rows at once from here on", progress.step, progress.micro)
        return
    if not progress.checkpointing and surroundings.checkpoint_activations():
        progress.checkpointing = True
        log.warning("memory ran out at step %d: activations are made twice from here on", progress.step)
        return
    raise ResourceExhausted(
        f"memory is too small for one image of this base: {numbers_text(0)}. Free some, train at a smaller "
        "resolution, or choose another base; the run then goes on",
        reason="OUT_OF_MEMORY",
    )


def _accumulate(loss: Loss, learner: Learner, progress: Progress, rows: range) -> torch.Tensor | None:
    """Returns the loss of some rows, or None when memory ran out; the exception, which pins tensors, ends here."""
    total = torch.zeros((), dtype=torch.float64, device=next(iter(learner.weights.values())).device)
    try:
        for first in range(rows.start, rows.stop, progress.micro):
            part = loss(progress.step, range(first, min(first + progress.micro, rows.stop)))
            (part * progress.scale).backward()
            total += part.detach()
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        return None
    return total


def _apply(learner: Learner, value: torch.Tensor, settings: LoopSettings, progress: Progress) -> bool:
    """Steps the optimiser, or skips the step where loss or gradient is not finite.

    Returns:
        False where only the scale was too high: the same step is taken again at half of it.
    """
    gradients = [weight.grad for weight in learner.weights.values() if weight.grad is not None]
    if progress.scale != 1:
        torch._foreach_div_(gradients, progress.scale)
    size = torch.nn.utils.clip_grad_norm_(learner.weights.values(), settings.max_grad_norm)
    mean, norm = torch.stack([value, size.to(value)]).tolist()  # the one time a step waits for the device
    if math.isfinite(mean) and math.isfinite(norm):
        share = rate(progress.step, settings) * 0.5**progress.rollbacks
        learner.update(settings.learning_rate * share, progress.step)
        progress.bad = 0
        progress.losses.append(mean)
        _count_good(settings, progress)
    elif math.isfinite(mean) and progress.scale > 1:
        progress.scale, progress.good = max(1.0, progress.scale / 2), 0
        log.info("step %d: a gradient overflowed, losses are scaled by %g from here on", progress.step, progress.scale)
        return False
    else:
        progress.bad += 1
        progress.skipped += 1
        progress.losses.append(None)
        log.warning("step %d skipped: loss %s, gradient norm %s", progress.step, mean, norm)
    progress.step += 1
    return True


def _count_good(settings: LoopSettings, progress: Progress) -> None:
    """Doubles the scale after enough good steps, where one is used at all."""
    if settings.loss_scale == 1:
        return
    progress.good += 1
    if progress.good == STEPS_TO_DOUBLE:
        progress.scale, progress.good = progress.scale * 2, 0


def _keep(learner: Learner, settings: LoopSettings, checkpoints: Checkpoints, progress: Progress) -> Progress:
    """Saves a checkpoint where one is due; after too many bad steps returns to the last good one instead."""
    if progress.bad == BAD_STEPS_TO_ROLL_BACK:
        return _roll_back(learner, settings, checkpoints, progress)
    if not progress.bad and (progress.step % settings.checkpoint_steps == 0 or progress.step == settings.steps):
        checkpoints.save(progress.step, learner.tensors(), asdict(progress))
    return progress


def _resume(learner: Learner, checkpoint: Checkpoint, settings: LoopSettings) -> Progress:
    learner.restore(checkpoint.tensors)
    return Progress(**{"scale": settings.loss_scale, **checkpoint.numbers})


def _roll_back(learner: Learner, settings: LoopSettings, checkpoints: Checkpoints, progress: Progress) -> Progress:
    """Returns to the last good checkpoint with half the rate; the second time the run has diverged."""
    checkpoint = checkpoints.newest()
    if progress.rollbacks >= ROLLBACKS_ALLOWED or checkpoint is None:
        message = f"expected a finite loss; it was none {BAD_STEPS_TO_ROLL_BACK} times in a row"
        raise Diverged(f"{message}, again after the rate was halved: start a new run with a lower one")
    log.warning("step %d: back to step %d at half the rate", progress.step, checkpoint.step)
    good = _resume(learner, checkpoint, settings)
    good.rollbacks, good.skipped, good.micro = progress.rollbacks + 1, progress.skipped, progress.micro
    good.checkpointing, good.scale, good.good = progress.checkpointing, progress.scale, progress.good
    return good
