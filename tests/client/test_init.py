"""The public face: names, nothing heavy, quick."""

import json
import subprocess
import sys

import konomi
from konomi import errors

FORBIDDEN = ("torch", "numpy", "sklearn", "PIL", "dbos", "pydantic", "typer", "rich")


def test_all_is_connect_client_and_the_errors():
    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert set(konomi.__all__) == tree | {"connect", "Client"}
    assert konomi.__all__ == sorted(konomi.__all__)


def test_every_public_name_can_be_had():
    for name in konomi.__all__:
        assert getattr(konomi, name).__name__ == name
    assert set(dir(konomi)) == set(konomi.__all__)


def test_other_names_are_refused():
    assert not hasattr(konomi, "connect_everything")


def test_import_is_quick_and_loads_no_numerics():
    code = (
        "import json, sys, time; start = time.process_time(); import konomi; spent = time.process_time() - start\n"
        f"at_import = [name for name in {FORBIDDEN!r} if name in sys.modules]\n"
        "konomi.connect\n"
        f"print(json.dumps([spent, at_import, [name for name in {FORBIDDEN!r} if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    spent, at_import, at_use = json.loads(done.stdout)
    assert spent <= 0.5
    assert at_import == []
    assert not {"torch", "numpy", "sklearn", "PIL", "dbos", "typer"} & set(at_use)
