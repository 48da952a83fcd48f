"""`pip install konomi` without extras: small, quick to import, free of torch, and honest about what it lacks."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.contract.source_tree import PACKAGES, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

UV = Path(sys.executable).with_name("uv")
MAX_BYTES = 60 * 1024 * 1024
MAX_IMPORT_SECONDS = 0.5
STARTER_MODELS = "konomi_starter/models/"
MAX_CONNECT_CPU_SECONDS = 1.0
TIMED_IMPORT = """
import time
start, cpu = time.perf_counter(), time.process_time()
import konomi
imported = time.perf_counter() - start
konomi.connect
print(imported, time.process_time() - cpu)
"""


def run(*command: object, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def tree_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release would be."""
    out = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", out, ROOT)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def thin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment holding the wheel without extras, at the pinned versions."""
    folder = tmp_path_factory.mktemp("thin")
    pins = folder / "pins.txt"
    pins.write_text(unhashed_pins(), "utf-8")
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    run(UV, "pip", "install", "--quiet", "--python", folder / "venv/bin/python", "-c", pins, wheel)
    return folder / "venv"


def unhashed_pins() -> str:
    """constraints.txt as constraints: one `name==version` a line."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return "\n".join(line.rstrip(" \\") for line in lines if "==" in line and line[0] not in " #")


def test_the_wheel_holds_stubs_models_and_no_leftovers(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for service in ("artifact", "generator", "rater", "trainer"):
        assert {f"konomi/v1/{service}_pb2.py", f"konomi/v1/{service}_pb2_grpc.py"} <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "konomi_starter/portraits/render.mjs" in names
    templates = ("page.html", "blocks.html", "pairs.html", "style.css")
    assert {f"konomi/night/report/templates/{name}" for name in templates} <= names
    assert "konomi/locale/ja/LC_MESSAGES/konomi.mo" in names
    assert {f"konomi/web/static/i18n/{name}.json" for name in ("en", "ja", "languages")} <= names
    assert not [name for name in names if "node_modules" in name or name.startswith("tests/")]
    committed = {
        path.relative_to(ROOT / "services/starter").as_posix()
        for path in (PACKAGES["konomi_starter"] / "models").rglob("*")
        if path.is_file()
    }
    assert committed <= names


def test_everything_under_the_packages_licence_is_told(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    notice = next(name for name in names if name.endswith("licenses/NOTICE"))
    text = zipfile.ZipFile(wheel).read(notice).decode()
    assert all(artist in text for artist in ("Lisa Wischofsky", "Micah Lanier", "Johan Melin"))


def test_the_thin_client_is_small(thin: Path):
    (packages,) = thin.glob("lib/python*/site-packages")
    starter = tree_bytes(packages / STARTER_MODELS)
    size = tree_bytes(packages) - starter
    print(f"thin client: {size / 2**20:.1f} MiB, starter models {starter / 2**20:.1f} MiB")
    assert size <= MAX_BYTES


def test_the_thin_client_imports_quickly_and_without_torch(thin: Path, tmp_path: Path):
    python = thin / "bin/python"
    run(python, "-c", "import konomi; konomi.connect", cwd=tmp_path)  # writes the byte code, as an installer would
    times = [[float(word) for word in run(python, "-c", TIMED_IMPORT, cwd=tmp_path).split()] for _ in range(5)]
    imported, connect_cpu = (min(column) for column in zip(*times, strict=True))
    print(f"import konomi: {imported:.3f} s; with konomi.connect loaded: {connect_cpu:.3f} CPU s")
    assert imported <= MAX_IMPORT_SECONDS
    assert connect_cpu <= MAX_CONNECT_CPU_SECONDS
    absent = "import importlib.util as u; print([n for n in ('torch', 'numpy', 'PIL', 'dbos') if u.find_spec(n)])"
    assert run(python, "-c", absent, cwd=tmp_path).strip() == "[]"


ASK_EVERY_COMMAND = """
import contextlib, io, json, traceback
from konomi.cli.commands import COMMANDS, command_for, run

def leaves(command, path):
    children = getattr(command, "commands", {})
    return [leaf for name, child in children.items() for leaf in leaves(child, [*path, name])] or [path]

def ask(words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = run(words)
        except BaseException:
            code = traceback.format_exc()
    return [code, out.getvalue()]

commands = [leaf for name in COMMANDS for leaf in leaves(command_for([name]).commands[name], [name])]
print(json.dumps({" ".join(words): [ask([*words, "--help"]), ask([*words, "--no-such-option"])] for words in commands}))
"""
"""Says of every command what its help and a wrong call of it answer: exit code or traceback, and what was printed."""

OK, FAILED, USAGE, AWAY, REFUSED = range(5)
NEEDS_AN_EXTRA = {
    "up": ("rater", "generator", "trainer"),
    "demo": ("overnight", "rater", "generator", "trainer"),
    "label": ("web",),
    "night start golden": ("rater", "generator", "trainer"),
    "night report": ("overnight",),
    "models import x.safetensors": ("generator",),
}
"""Calls that are right and cannot work here, and the extras their answer names."""


def konomi(thin: Path, home: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs one command of the thin client, which prints no traceback whatever it is asked for."""
    command = [str(thin / "bin/konomi"), "--home", str(home), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=home, stdin=subprocess.DEVNULL)
    assert "Traceback" not in done.stdout + done.stderr, f"{' '.join(words)}\n{done.stderr[-2000:]}"
    return done


def test_every_command_explains_itself_without_any_extra(thin: Path, tmp_path: Path):
    answers = json.loads(run(thin / "bin/python", "-c", ASK_EVERY_COMMAND, cwd=tmp_path))
    assert len(answers) > 30 and "night start" in answers
    for words, ((code, printed), (wrong_code, complaint)) in answers.items():
        assert code == OK and f"konomi {words}" in printed, f"{words}: {code}"
        assert wrong_code == USAGE and "--no-such-option" in complaint, f"{words}: {wrong_code}"


@pytest.mark.parametrize("words", NEEDS_AN_EXTRA)
def test_a_command_that_lacks_an_extra_names_the_line_that_brings_it(thin: Path, tmp_path: Path, words: str):
    done = konomi(thin, tmp_path, words.split())
    assert done.returncode == REFUSED
    last = done.stderr.strip().splitlines()[-1]
    assert "not installed: " in last and "; run: " in last and "pip install" in last
    assert f"[{','.join(NEEDS_AN_EXTRA[words])}]" in last


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("models list", AWAY),
        ("score .", AWAY),
        ("taste verify no-such-file.konomi", FAILED),
        ("night status", OK),
        ("night plan golden --hours 1", OK),
        ("models fetch", OK),
        ("models fetch no-such-model", USAGE),
        ("no-such-command", USAGE),
    ],
)
def test_what_needs_no_extra_works_without(thin: Path, tmp_path: Path, words: str, code: int):
    assert konomi(thin, tmp_path, words.split()).returncode == code
