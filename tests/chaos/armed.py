"""Arms a night: it notes every step it really runs, and kills its own process at one boundary of one step.

BOUNDARY is SIDE:STEP, the step a number or a name, the sides in the order in which a step passes them: "before" it
starts, "inside" with its work done, "returned" to dbos and not recorded, "recorded" by dbos before the night goes on,
"after" it, before the record for people is written. RAN is the file of the notes. SCHEMA, EXTRA and LACKS let another
version play: its number, a step it takes before unit 1 is judged, a setting it does not know.
"""

import os
import signal
import time
from pathlib import Path

SIDES = ("before", "inside", "returned", "recorded", "after")


def arm() -> None:
    """Replaces what runs a step, in this process, by the same and what the environment asks for."""
    from dbos._sys_db import SystemDatabase

    from konomi.night.engine import preparation, workflow

    side, _, at = os.environ.get("BOUNDARY", "").partition(":")
    workflow.SCHEMA = os.environ.get("SCHEMA", workflow.SCHEMA)
    plain, lacks, extra = preparation.plain, os.environ.get("LACKS"), os.environ.get("EXTRA")
    preparation.plain = lambda settings: {name: value for name, value in plain(settings).items() if name != lacks}
    runs = workflow.NightWorkflow
    do, attempt, record = runs._do, runs._attempt, SystemDatabase.record_operation_result
    count, here = 0, ""

    def end(where: str, name: str) -> None:
        if where == side and name == here:
            os.kill(os.getpid(), signal.SIGKILL)

    def armed_do(self, name, body, *arguments):
        nonlocal count, here
        if extra and name == "unit-1/judge":
            do(self, extra, dict)
        count += 1
        here = name if at in (str(count), name) else ""

        def work(*values):
            value = body(*values)
            end("inside", name)
            return value

        end("before", name)
        envelope = do(self, name, work, *arguments)
        end("after", name)
        return envelope

    def armed_attempt(self, name, body, arguments):
        note(name)
        return attempt(self, name, body, arguments)

    def armed_record(self, result, **more):
        end("returned", result["function_name"])
        record(self, result, **more)
        end("recorded", result["function_name"])

    runs._do, runs._attempt = armed_do, armed_attempt
    SystemDatabase.record_operation_result = armed_record


def note(name: str) -> None:
    """Appends that a step begins, with the time."""
    if "RAN" in os.environ:
        with Path(os.environ["RAN"]).open("a") as file:
            file.write(f"{time.time():.3f} {name}\n")


def ran(home: Path) -> list[tuple[float, str]]:
    """Returns the time and name of every step that was begun on a home, in order."""
    path = home / "ran.log"
    pairs = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
    return [(float(moment), name) for moment, name in pairs]
