"""What an actor does: trains one run in a process of its own on its machine, and passes on what is said.

The process is the one of `jobs/run_process`, with the home of this machine: its base models and cached tensors. Before
it starts, the newest checkpoint of the run is fetched from the store unless the home has it.
"""

import json
import logging
import os
import queue
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from konomi.errors import FailedPrecondition, KonomiError
from konomi_chassis.cluster.versions import difference
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.process import OFFLINE
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_trainer.base_models import device
from konomi_trainer.jobs.own_process import events, say, started
from konomi_trainer.jobs.rank_process import settings_of
from konomi_trainer.jobs.run_files import RunFiles
from konomi_trainer.jobs.shared_checkpoints import SharedCheckpoint, fetch
from konomi_trainer.jobs.worker import failure_of
from konomi_trainer.training.checkpoints import Checkpoints

log = logging.getLogger(__name__)
ENDED = "ended"
"""Last event of all, also where the process ended without a word."""
OWN = ("checkpoints", "unfinished", "versions")
"""What of the task is the actor's alone and not told to the process."""
HEAR_SECONDS = 1.0
"""For which a call to `hear` waits for the next event."""


class TrainingWorker:
    """Trains one run.

    Args:
        task: JSON of what run_process is told, with `settings` and `store`; `checkpoints` are those the service noted,
            `unfinished` the runs it knows, `device` is its setting, and `versions` are its libraries'.
    """

    def __init__(self, task: str) -> None:
        os.umask(0o077)
        os.environ.update(OFFLINE)
        self._task: dict[str, Any] = json.loads(task)
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._child: subprocess.Popen[bytes] | None = None
        self._said: list[str] = []
        self._saying = threading.Lock()

    def begin(self) -> int:
        """Begins to train, once, and answers with its process."""
        threading.Thread(target=self._work, name="run", daemon=True).start()
        return os.getpid()

    def hear(self) -> list[dict[str, Any]]:
        """Returns what the run has said since the last call, in order; waits a second for it where it is silent."""
        try:
            heard = [self._events.get(timeout=HEAR_SECONDS)]
        except queue.Empty:
            return []
        while not self._events.empty():
            heard.append(self._events.get())
        return heard

    def say(self, word: str) -> None:
        """Passes a word on to the run, `stop` or `kept`; where it has not begun, once it begins."""
        with self._saying:
            if self._child is None:
                self._said.append(word)
            else:
                say(self._child, word)

    def _work(self) -> None:
        """The thread of the run; the process it starts ends with it."""
        try:
            self._prepare()
            task = {name: value for name, value in self._task.items() if name not in OWN}
            place = device.CPU if device.chosen(_of_one_machine(task["device"])) == device.CPU else device.CUDA
            with started({**task, "shares": True}, place, task["settings"]["processes"]) as child:
                with self._saying:
                    self._child = child
                    for word in self._said:
                        say(child, word)
                for event in events(child):
                    self._events.put(event)
        except Exception as error:  # noqa: BLE001 the boundary of the actor: the service hears of any failure
            failure = failure_of(error)
            code = failure.code.value[0]
            self._events.put({"event": "failed", "code": code, "reason": failure.reason, "message": failure.message})
        finally:
            self._events.put({"event": ENDED})

    def _prepare(self) -> None:
        """Checks libraries and base model, drops what ended runs left here, and fetches the newest checkpoint."""
        unfit = difference(self._task["versions"])
        if unfit is not None:
            raise unfit
        home, run = Path(self._task["home"]), self._task["run"]
        check_model(home, self._task["configuration"])
        files = RunFiles(home)
        for other in set(files.unfinished()) - {run, *self._task["unfinished"]}:
            files.forget(other)
        noted = [SharedCheckpoint(**one) for one in self._task["checkpoints"]]
        store = ArtifactStore(settings_of(self._task, device.CPU)[1])
        step = fetch(Checkpoints(files.checkpoints / run), noted, store)
        log.info("run %s goes on from step %d on this machine", run, step)


def check_model(home: Path, configuration: Mapping[str, Any]) -> None:
    """Returns where the home's base model is the one a run was created with.

    Raises:
        KonomiError: it is another (reason MODEL_DIFFERS), or it is not there.
    """
    models, name, digest = BaseModels(home), configuration["base_model"], configuration["base_digest"]
    advice = "Copy the folder `models` of the home to every machine."
    try:
        own = models.digest(models.get(name))
    except KonomiError as error:
        error.message = f"{error.message} This was said by a machine of the cluster. {advice}"
        raise
    if own != digest:
        raise FailedPrecondition(
            f'The base model "{name}" of one machine of the cluster is another ({own[:12]}) than the one the run was '
            f"created with ({digest[:12]}). {advice}",
            reason="MODEL_DIFFERS",
        )


def _of_one_machine(setting: str) -> str:
    """Returns the service's setting of a device as a machine takes it that sees only the GPUs it is to use."""
    return setting.partition(":")[0]
