"""systemd units, the SkyPilot task and the dashboard: they start commands that exist and show metrics that are sent."""

import ast
import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
import yaml
from google.protobuf import descriptor_pool

import konomi.v1.artifact_pb2
import konomi.v1.generator_pb2
import konomi.v1.rater_pb2
import konomi.v1.trainer_pb2  # noqa: F401  the descriptors
from tests.contract.deploy.commands import commands_of, wrong_command, wrong_setting
from tests.contract.source_tree import ROOT

DEPLOY = ROOT / "deploy"
UNITS = [DEPLOY / "konomi.service", *sorted((DEPLOY / "systemd").iterdir())]
SERVICES = [path for path in UNITS if path.suffix == ".service"]


def unit(path: Path) -> configparser.ConfigParser:
    read = configparser.ConfigParser(interpolation=None, strict=False)
    read.optionxform = str
    read.read(path, "utf-8")
    return read


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_unit_runs_a_command_and_gives_settings_that_exist(path):
    service = unit(path)["Service"]
    assert wrong_command(service["ExecStart"].split()) == ""
    name, _, value = service["Environment"].partition("=")
    assert wrong_setting(name, value) == ""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_every_unit(tmp_path):
    """As installed: where the commands are, which systemd looks for, an empty program lies."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in ("konomi", "python"):
        (bin_folder / name).write_text("#!/bin/sh\n")
        (bin_folder / name).chmod(0o755)
    copied = []
    for path in UNITS:
        name = path.name.replace("@.", "@50061.")
        copied.append(tmp_path / name)
        copied[-1].write_text(path.read_text("utf-8").replace("%h/.local/share/konomi-venv/bin", str(bin_folder)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *map(str, copied)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in done.stderr.splitlines() if any(path.name.partition("@")[0] in line for path in copied)]
    assert (done.returncode, said) == (0, [])


def test_the_timer_begins_the_unit_of_its_name():
    (timer,) = [path for path in UNITS if path.suffix == ".timer"]
    assert timer.with_suffix(".service").exists()
    assert unit(timer)["Timer"]["OnCalendar"] == "*-*-* 22:00:00"


def task() -> dict:
    return yaml.safe_load((DEPLOY / "skypilot.yaml").read_text("utf-8"))


def test_the_skypilot_task_starts_commands_that_exist_with_settings_that_exist():
    run = task()["run"]
    settings = re.findall(r"(KONOMI_\w+)=(\S+)", run)
    assert settings
    assert [wrong for name, value in settings if (wrong := wrong_setting(name, value.strip('"')))] == []
    lines = [line.split("#")[0].strip() for line in run.splitlines()]
    konomi = [words for line in lines if "/konomi " in line for words in commands_of(line)]
    assert konomi
    assert [wrong_command(words) for words in konomi] == [""]


def test_the_skypilot_task_protects_ray_and_writes_no_secret():
    written = task()
    assert all(value is None for value in written["secrets"].values())
    assert "RAY_AUTH_TOKEN" in written["secrets"]
    assert "RAY_AUTH_MODE=token RAY_USE_TLS=1" in written["run"]
    assert written["num_nodes"] >= 2


@pytest.mark.slow
def test_ray_knows_every_option_the_files_give_it():
    from ray.scripts.scripts import start  # needs the extra, which tests have

    known = {name for parameter in start.params for name in parameter.opts}
    texts = [task()["run"], (DEPLOY / "helm/konomi/templates/konomi.yaml").read_text("utf-8")]
    given = {
        word
        for text in texts
        for line in re.findall(r"ray start (.*)", text)
        for word in re.findall(r"--[a-z-]+", line)
    }
    assert "--address" in given
    assert given <= known
    cluster = (DEPLOY / "helm/konomi/templates/ray.yaml").read_text("utf-8")
    (parameters,) = re.findall(r"rayStartParams: \{(.+)\}", cluster)
    assert {f"--{name}" for name in re.findall(r"([a-z-]+):", parameters)} <= known


def instruments() -> dict[str, set[str]]:
    """Every metric konomi sends, as Prometheus names it, with the labels it has: read from the code that records it."""
    found: dict[str, set[str]] = {}
    for path in ROOT.glob("services/*/konomi_*/**/*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if re.fullmatch(r"create_(histogram|counter|up_down_counter|gauge|observable_\w+)", node.func.attr):
                unit_of = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}.get("unit", "")
                name = ast.literal_eval(node.args[0]).replace(".", "_") + {"s": "_seconds", "": ""}[unit_of]
                recorded = [ast.literal_eval(key) for call in ast.walk(tree) for key in _attributes(call)]
                parts = ("_bucket", "_count", "_sum") if node.func.attr == "create_histogram" else ("",)
                found |= {name + part: set(recorded) for part in parts}
    return found


def _attributes(call: ast.AST) -> list[ast.expr]:
    """Keys of the attributes of a measurement: `.record(value, {"rpc": …})`."""
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Attribute)
        or call.func.attr not in ("record", "add")
    ):
        return []
    return [key for given in call.args[1:] if isinstance(given, ast.Dict) for key in given.keys if key is not None]


def test_the_dashboard_shows_metrics_konomi_sends_by_labels_they_have():
    dashboard = json.loads((DEPLOY / "grafana" / "konomi.json").read_text("utf-8"))
    sent = instruments()
    assert sent
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    codes = {code.name for code in grpc.StatusCode}
    pool = descriptor_pool.Default()
    for query in queries:
        names = re.findall(r"([a-z_]+)\{", query)
        assert names and set(names) <= set(sent), query
        for chosen in re.findall(r"\{([^}]*)\}", query):
            for label, told in re.findall(r"(\w+)(?:=~|!~|!=|=)\"([^\"]*)\"", chosen):
                assert label in sent[names[0]] | {"job"}, query
                if label == "code":
                    assert set(told.split("|")) <= codes
                if label == "rpc":
                    service, _, methods = told.strip("/").rpartition("/")
                    known = {method.name for method in pool.FindServiceByName(service).methods}
                    assert set(methods.strip("()").split("|")) <= known
        for by in re.findall(r"by \(([^)]*)\)", query):
            assert set(by.replace(" ", "").split(",")) <= sent[names[0]] | {"job", "instance", "le"}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)
