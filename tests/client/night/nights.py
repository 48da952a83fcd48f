"""A bench for nights: homes on stand-in services, `konomi` as a child process, and what a night left behind."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.client.night.warm import Child

FOLDER = Path(__file__).parent
STARTER_PARTS = ("diffusion/model_index.json", "embedder/model.safetensors", "reader/model.safetensors")
SMALL = {
    "KONOMI_NIGHT_IMAGES": "24",
    "KONOMI_NIGHT_EVALUATION_IMAGES": "16",
    "KONOMI_NIGHT_CHUNK": "8",
    "KONOMI_NIGHT_STEPS": "4",
    "KONOMI_NIGHT_SELECT_MINIMUM": "6",
    "KONOMI_NIGHT_RESERVE_GIB": "0",
    "KONOMI_NIGHT_BACKOFF_SECONDS": "0.1",
    "KONOMI_NIGHT_ATTEMPTS": "8",
    "KONOMI_NIGHT_PROMOTE_WIN_RATE": "0.5",
}


class Bench:
    """Homes below one folder; every child it starts is its own to kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shadow = folder / "shadow"
        self.children: list[subprocess.Popen | Child] = []
        for role in ("rater", "generator", "trainer", "starter"):
            package = self.shadow / f"konomi_{role}"
            package.mkdir(parents=True)
            (package / "__init__.py").write_text("")
            lines = f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\nimport stand_ins\n"
            (package / "__main__.py").write_text(f"{lines}stand_ins.main({role!r}, sys.argv[1:])\n")

    def home(self, name: str) -> Path:
        """Returns a home that looks as if the starter models were installed."""
        home = self.folder / name
        for part in STARTER_PARTS:
            path = home / "models" / "starter" / part
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (home / "prompts.txt").write_text("a red portrait\na portrait\na portrait, hat\n")
        return home

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Returns the environment of a child on a home."""
        path = os.pathsep.join(filter(None, (str(self.shadow), os.environ.get("PYTHONPATH", ""))))
        return {**os.environ, "KONOMI_HOME": str(home), "PYTHONPATH": path, "LANG": "C.UTF-8", **SMALL, **more}

    def spawn(self, home: Path, *arguments: str, before: Callable[[], None] | None = None, **environment: str) -> Child:
        """Starts `konomi ARGUMENTS` in its own session; `before` is called in the child first."""
        child = Child(arguments, self.environment(home, **environment), before)
        self.children.append(child)
        return child

    def spawn_cold(self, home: Path, *arguments: str, **environment: str) -> subprocess.Popen:
        """Starts `konomi ARGUMENTS` in a fresh interpreter, as a person does."""
        command = [sys.executable, "-c", "from konomi.cli import main; main()", *arguments]
        child = subprocess.Popen(
            command,
            env=self.environment(home, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.children.append(child)
        return child

    def konomi(self, home: Path, *arguments: str, timeout: float = 500, cold: bool = False, **environment: str):
        """Runs `konomi ARGUMENTS` to its end and returns (exit code, last line as JSON or text, standard error)."""
        spawn = self.spawn_cold if cold else self.spawn
        child = spawn(home, *arguments, **environment)
        out, err = child.communicate(timeout=timeout)
        last = out.strip().splitlines()[-1] if out.strip() else ""
        return child.returncode, json.loads(last) if last.startswith("{") else last, err

    def start(self, home: Path, *more: str) -> tuple[str, ...]:
        """Returns the arguments of the night these tests run."""
        prompts = str(home / "prompts.txt")
        return ("night", "start", "converge", "--units", "2", "--seed", "7", "--prompts", prompts, "--json", *more)

    def close(self) -> None:
        """Kills what is left of its children."""
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.communicate()


def roles_of(home: Path) -> dict[str, int]:
    """Returns role → process id of the stand-ins running on a home, found by their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if str(home) in words and "-m" in words:
            found[words[words.index("-m") + 1].removeprefix("konomi_")] = int(path.parent.name)
    return found


def kill(pid: int) -> None:
    """Kills one process the hard way; one that is gone already is no matter."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def left_behind(home: Path, night: str) -> dict:
    """Returns everything a night made that must not depend on how often it was killed."""
    state = json.loads((home / "nights" / night / "night.json").read_text())
    units = [
        {
            "unit": unit["unit"],
            "model": unit.get("model"),
            "adapter": unit.get("adapter"),
            "manifest": unit.get("selection", {}).get("manifest"),
            "evaluation": unit.get("evaluation"),
            "decision": unit.get("decision"),
            "promoted": unit.get("promoted"),
            "scores": unit.get("scores"),
        }
        for unit in state["units"]
    ]
    moves = sqlite3.connect(home / "databases" / "stand-in-moves.sqlite").execute("SELECT k, v FROM t").fetchall()
    images = sqlite3.connect(home / "databases" / "stand-in-images.sqlite").execute("SELECT k FROM t").fetchall()
    artifacts = sorted(path.name for path in (home / "artifacts").iterdir() if not path.name.startswith("."))
    steps = [step["name"] for step in state["steps"]]
    return {
        "units": units,
        "moves": sorted(moves),
        "images": sorted(images),
        "artifacts": hashlib.sha256("".join(artifacts).encode()).hexdigest(),
        "steps": steps,
        "served": state["served"],
        "state": state["state"],
        "reason": state["reason"],
    }


def calls(home: Path) -> list[str]:
    """Returns what the stand-ins finished, one line a call."""
    path = home / "calls.log"
    return path.read_text().splitlines() if path.exists() else []
