"""`konomi doctor`: every check broken once, and the line that fixes it."""

import collections
import os
import shlex
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from konomi.cli.doctor import checks as examination
from konomi.cli.doctor.finding import Finding
from konomi.home import Home
from konomi.host import extras


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path))
    return Home(tmp_path)


def test_a_healthy_home(command_line):
    said = command_line.json("doctor")
    assert said["ok"] is True
    names = {check["name"] for check in said["checks"]}
    assert {"SQLite", "home", "disk", "filesystem", "starter models", "token", "GPU", "services", "embedder"} <= names
    assert {f"extra {name}" for name in extras.EXTRAS} | {"privacy", "page", "listening"} <= names
    assert all(set(check) == {"name", "state", "detail", "fix"} for check in said["checks"])


def test_failures_have_a_fix_and_an_exit_code(command_line):
    token = command_line.home / "tokens" / "owner.token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    done = command_line.run("doctor", "--lang", "ja")
    assert done.returncode == 1
    assert f"chmod 600 {token}" in done.stdout
    assert "他人が読めます" in done.stdout
    assert "secret" not in done.stdout
    token.chmod(0o600)
    assert command_line.run("doctor").returncode == 0


def test_missing_extras(home, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "trainer", ("no_such_module", "grpc"))
    for extra in ("web", "files", "offline"):
        monkeypatch.setitem(extras.EXTRAS, extra, ("no_such_module",))
    found = {finding.name: finding for finding in examination.examine(home)}
    assert (found["extra trainer"].state, found["extra trainer"].fix) == ("fail", extras.pip_line("trainer"))
    assert found["extra trainer"].detail == "not installed: no_such_module"
    for extra in ("web", "files", "offline"):
        assert (found[f"extra {extra}"].state, found[f"extra {extra}"].fix) == ("warn", extras.pip_line(extra))
        assert extras.PURPOSES[extra] in found[f"extra {extra}"].detail


def test_the_line_that_installs_names_this_environment_and_where_konomi_came_from():
    python, *words = shlex.split(extras.pip_line("web", "files"))
    assert Path(python).samefile(sys.executable)
    assert words[:3] == ["-m", "pip", "install"]
    assert Path(words[3].removesuffix("[web,files]"), "pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("told", "requirement"),
    [
        ('{"url": "file:///a%20b/konomi", "dir_info": {}}', "'/a b/konomi[web]'"),
        ('{"url": "file:///w/konomi.whl", "archive_info": {}}', "'konomi[web] @ file:///w/konomi.whl'"),
        (None, "'konomi[web]'"),
    ],
)
def test_konomi_may_come_from_a_clone_a_file_or_an_index(monkeypatch, told, requirement):
    source = types.SimpleNamespace(read_text=lambda name: told)
    monkeypatch.setattr(extras, "distribution", lambda name: source)
    assert extras.pip_line("web").endswith(f" install {requirement}")


def test_an_environment_without_pip_is_filled_by_uv(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    line = extras.install_line("torch", upgrade=True)
    assert line.startswith(f"uv pip install --python {shlex.quote(sys.executable)} -U 'torch'")


def test_old_sqlite(home, monkeypatch):
    monkeypatch.setattr("pysqlite3.dbapi2.sqlite_version", "3.51.2")
    assert examination.sqlite(home).state == "fail"
    monkeypatch.setattr("pysqlite3.dbapi2.sqlite_version", "3.51.3")
    assert examination.sqlite(home).state == "ok"


@pytest.mark.parametrize(("free", "state"), [(1, "fail"), (5, "warn"), (50, "ok")])
def test_disk(home, monkeypatch, free, state):
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(examination.shutil, "disk_usage", lambda path: usage(free * 1024**3))
    assert examination.disk(home).state == state


def test_disk_of_a_home_that_is_not_there_yet(tmp_path):
    assert examination.disk(Home(tmp_path / "not" / "yet")).detail.endswith("GiB free")


@pytest.mark.parametrize(
    ("mounts", "state"),
    [
        ("/dev/sda / ext4 rw 0 0\n", "ok"),
        ("/dev/sda / ext4 rw 0 0\nserver:/x {parent} nfs4 rw 0 0\n", "fail"),
        ("server:/x / nfs rw 0 0\n/dev/sda {parent} ext4 rw 0 0\n", "ok"),
        ("/dev/sda / ext4 rw 0 0\nserver:/x {parent}x cifs rw 0 0\n", "ok"),
        ("", "ok"),
    ],
)
def test_network_filesystems(home, mounts, state):
    assert examination.filesystem(home, mounts.format(parent=home.root.parent)).state == state


def test_broken_configuration(home):
    home.configuration.write_text("[rater\n")
    finding = examination.configuration(home)
    assert finding.state == "fail"
    assert str(home.configuration) in finding.fix


def test_missing_starter(home):
    assert examination.starter(home).state == "warn"


def test_home_that_is_a_file(tmp_path):
    (tmp_path / "home").write_text("")
    assert examination.writable(Home(tmp_path / "home")).state == "fail"


def test_clock_before_the_database(home):
    database = home.root / "databases" / "rater.sqlite"
    database.parent.mkdir()
    database.write_bytes(b"")
    assert examination.clock(home).state == "ok"
    assert examination.clock(home, now=time.time() - 3 * 24 * 3600).state == "warn"


def fake_nvidia_smi(folder, monkeypatch, script):
    tool = folder / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n" + script)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")


def test_gpu_without_a_build_for_it(home, tmp_path, monkeypatch):
    fake_nvidia_smi(tmp_path, monkeypatch, "echo 'H100, 81559 MiB'\n")
    monkeypatch.setattr(examination, "version", lambda name: "2.15.0+cpu")
    found = examination.gpu(home)
    assert (found.state, found.fix) == ("warn", extras.install_line("torch", upgrade=True))
    monkeypatch.setattr(examination, "version", lambda name: "2.15.0+cu130")
    assert examination.gpu(home) == Finding("GPU", "ok", "H100, 81559 MiB")


def test_a_driver_that_fails_or_hangs(home, tmp_path, monkeypatch):
    fake_nvidia_smi(tmp_path, monkeypatch, "exit 9\n")
    assert "none" in examination.gpu(home).detail

    def hang(*arguments, **options):
        raise subprocess.TimeoutExpired("nvidia-smi", 20)

    monkeypatch.setattr(examination.subprocess, "run", hang)
    assert examination.gpu(home).state == "warn"


def test_services_that_run_and_foreign_images(command_line, tmp_path, png):
    process, _ = command_line.up()
    checks = {check["name"]: check for check in command_line.json("doctor")["checks"]}
    assert "rater 127.0.0.1:" in checks["services"]["detail"]
    assert checks["embedder"]["state"] == "ok"
    (tmp_path / "photo.png").write_bytes(png(1))
    command_line.json("import", str(tmp_path / "photo.png"))
    checks = {check["name"]: check for check in command_line.json("doctor")["checks"]}
    assert checks["embedder"]["state"] == "warn"
    assert "konomi rater embedder timm:tf_efficientnet_lite0" in checks["embedder"]["fix"]
    shown = command_line.json("rater", "embedder")
    assert (shown["embedder"], shown["change"]) == ("starter", True)
    kept = command_line.json("rater", "embedder", "timm:tf_efficientnet_lite0", "--second")
    assert (kept["taste"]["embedder"], kept["taste"]["second_embedder"]) == ("starter", "timm:tf_efficientnet_lite0")
    assert command_line.json("rater", "embedder")["second_embedder"] == "timm:tf_efficientnet_lite0"
    assert command_line.json("rater", "embedder", "--no-second")["taste"]["second_embedder"] == ""
    changed = command_line.json("rater", "embedder", "timm:tf_efficientnet_lite0")
    assert changed["taste"]["embedder"] == "timm:tf_efficientnet_lite0"
    checks = {check["name"]: check for check in command_line.json("doctor")["checks"]}
    assert checks["embedder"]["state"] == "ok"
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)


@pytest.mark.slow
def test_services_that_hang(home, monkeypatch):
    with home.held():
        home.announce({"rater": "127.0.0.1:1"})
        found = examination.services(home)
    assert found.state == "fail"
    assert examination.services(home).state == "ok"
