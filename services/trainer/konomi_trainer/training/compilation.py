"""When the UNet's repeated blocks are compiled: where that saves more over the rest of a run than it takes.

What compiling took and saved is measured and kept for the next run on the same base, device and precision; before the
first one it is guessed, on the careful side. Compiled blocks may change the last bits of a result.
"""

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

from konomi_chassis.memory_shortage import give_back
from konomi_trainer.training.checkpoints import write_durably

log = logging.getLogger(__name__)
WARM, MEASURED = 1, 4
"""Steps that are not measured, since they find their kernels first, and steps that are."""


class Compilable(Protocol):
    """A base model whose blocks can be compiled."""

    def compile_blocks(self) -> None:
        """Compiles the repeated blocks at their next use."""


@dataclass(frozen=True)
class CompileCost:
    """What compiling takes and saves: seconds, once, and a share of every step."""

    seconds: float = 60.0
    gain: float = 0.15


@dataclass(frozen=True)
class CostFile:
    """Where a run computes: its device, and the file that keeps what compiling cost there."""

    device: str
    file: Path


class BlockCompiler:
    """Measures the steps of a run and compiles once, where it pays."""

    def __init__(
        self,
        base: Compilable,
        setting: bool | Literal["auto"],
        steps: int,
        place: CostFile,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Compiles at once where the setting says so.

        Args:
            base: the base model.
            setting: True and False decide; "auto" lets measurements decide, and never compiles on a CPU.
            steps: of the whole run.
            place: where it computes.
            clock: gives seconds.
        """
        self._base, self._steps, self._place, self._clock = base, steps, place, clock
        self._deciding = setting == "auto" and place.device != "cpu"
        self.compiled = setting is True
        self._times: list[float] = []
        self._plain = 0.0
        self._last = clock()
        if self.compiled:
            base.compile_blocks()

    def after_step(self, step: int) -> None:
        """Takes the time of a step; decides after the first ones, and measures what came of it after as many more."""
        now = self._clock()
        self._times.append(now - self._last)
        self._last = now
        if not self._deciding or len(self._times) < WARM + MEASURED:
            return
        typical = statistics.median(self._times[WARM:])
        if self.compiled:
            self._keep(typical)
            self._deciding = False
            return
        cost, left = self._known(), (self._steps - step) * typical
        if left * cost.gain <= cost.seconds:
            self._deciding = False
            return
        log.info("compiling: %.0f s of steps are left, of which it should save %.0f", left, left * cost.gain)
        self._base.compile_blocks()
        self.compiled, self._plain, self._times = True, typical, []

    def _known(self) -> CompileCost:
        try:
            return CompileCost(**json.loads(self._place.file.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return CompileCost()

    def _keep(self, typical: float) -> None:
        """Keeps what the first compiled step took beyond a plain one, and what the others saved."""
        cost = CompileCost(max(0.0, self._times[0] - typical), 1 - typical / self._plain if self._plain else 0.0)
        log.info("compiled in %.0f s; a step takes %.0f %% less", cost.seconds, 100 * cost.gain)
        self._place.file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._place.file, json.dumps(asdict(cost)).encode())


def release() -> None:
    """Frees everything a run has left: blocks that were compiled for it, and what `give_back` frees.

    Only the end of a process gives back the context of a GPU as well; see jobs/own_process.
    """
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()
    give_back()
