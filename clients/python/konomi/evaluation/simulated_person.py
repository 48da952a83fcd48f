"""The simulated person as a child process that speaks JSON lines, and what else the starter tells."""

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict, cast

from konomi import errors
from konomi.i18n.catalogue import text

ANSWER_SECONDS = 600.0
"""The longest a person may think."""
REFUSED = 4
"""Exit code of the starter when what it was given is wrong."""


class Introduction(TypedDict):
    """Who a simulated person is, as the starter says it."""

    name: str
    weights: dict[str, float]
    noise: float


@dataclass(frozen=True)
class Truth:
    """What a person truly thinks of images: utility and grade of each, and the share that is not broken."""

    utilities: Sequence[float]
    grades: Sequence[int]
    realism: float


def starter(*arguments: str) -> Any:
    """Returns what `python -m konomi_starter ARGUMENTS` prints, as JSON.

    Raises:
        InvalidArgument: it refused what it was given; the message is its last line.
        Internal: it failed.
    """
    command = [sys.executable, "-m", "konomi_starter", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    if done.returncode == REFUSED:
        raise errors.InvalidArgument(_last(done.stderr), reason="STARTER_REFUSED")
    if done.returncode != 0:
        raise errors.Internal(_last(done.stderr), reason="STARTER_FAILED")
    return json.loads(done.stdout.strip().splitlines()[-1])


class SimulatedPerson:
    """A child that grades; as a context manager it is asked to leave at the end."""

    def __init__(self, home: Path, address: str, person: Path | None, seed: int) -> None:
        """Starts the child; it loads its models while others work.

        Args:
            home: home folder with the starter models.
            address: "HOST:PORT" of a service with the artifacts.
            person: JSON file of the person; a random one of the seed where there is none.
            seed: seed of the random person.
        """
        command = [sys.executable, "-m", "konomi_starter", "person", "--home", str(home), "--address", address]
        command += ["--person", str(person)] if person else ["--seed", str(seed)]
        log = home / "logs" / "person.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("wb") as file:
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True
            )
        self._introduction: Introduction | None = None

    @property
    def introduction(self) -> Introduction:
        """Who the person is."""
        if self._introduction is None:
            self._introduction = cast(Introduction, self._line())
        return self._introduction

    def tiers(self, digests: Sequence[str]) -> list[float]:
        """Fixes where each grade begins on these images and returns the four cuts."""
        return list(self._ask(op="tiers", digests=list(digests))["cuts"])

    def grade(self, digests: Sequence[str], seed: int) -> list[int]:
        """Returns what the person says: 1 (N) to 5 (UR), with the person's own noise."""
        return list(self._ask(op="grade", digests=list(digests), seed=seed)["grades"])

    def truth(self, digests: Sequence[str]) -> Truth:
        """Returns the hidden truth."""
        answer = self._ask(op="truth", digests=list(digests))
        return Truth(answer["utilities"], answer["grades"], answer["realism"])

    def _ask(self, **request: Any) -> dict[str, Any]:
        if self._introduction is None:
            self._introduction = cast(Introduction, self._line())
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise self._gone() from error
        answer = self._line()
        if "error" in answer:
            message = text("The simulated person could not answer: {why}", why=answer["error"])
            raise errors.Internal(message, reason="PERSON_FAILED")
        return answer

    def _line(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        hurry = threading.Timer(ANSWER_SECONDS, self._child.kill)
        hurry.start()
        try:
            line = self._child.stdout.readline()
        finally:
            hurry.cancel()
        if not line:
            raise self._gone()
        return dict(json.loads(line))

    def _gone(self) -> errors.KonomiError:
        self._child.kill()
        code = self._child.wait()
        reason = _last(self._log.read_text(errors="replace"))
        if code == 4:
            return errors.InvalidArgument(reason, field="person")
        message = text("The simulated person left: {why} (log: {log})", why=reason, log=self._log)
        return errors.Internal(message, reason="PERSON_LEFT")

    def __enter__(self) -> "SimulatedPerson":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.stdin is not None:
            try:
                self._child.stdin.close()
            except BrokenPipeError:
                self._child.kill()
        try:
            self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def _last(log: str) -> str:
    lines = log.strip().splitlines()
    return lines[-1][:500] if lines else text("it said nothing")
