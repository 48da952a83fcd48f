"""The check of a device, rehearsed on the CPU: every section runs, a killed run keeps its rows, skips are named."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import torch

from tests.benchmarks.device import sections
from tests.benchmarks.device.command import SECTIONS, main
from tests.benchmarks.device.sections import Check, Row, RowFile, Section, run, table
from tests.benchmarks.trainer import published_layouts as published

SCRIPT = Path(__file__).parents[1] / "device_check.py"
CHEAPEST = ("versions", "ceilings")


def rehearsal(out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), "--rehearse", "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text("utf-8").splitlines()]


def rehearsed(out: Path, chosen: Collection[str]) -> list[dict]:
    """Rehearses sections in a process of their own, holds what each of them must leave, and returns the rows."""
    process = rehearsal(out, "--sections", ",".join(chosen))
    printed, _ = process.communicate()
    assert process.returncode == 0, printed[-6000:]
    rows = read(out)
    assert {row["section"] for row in rows} == set(chosen)
    for name in chosen:
        own = [row for row in rows if row["section"] == name]
        assert len(own) >= 3 and own[-1]["what"] == "section" and own[-1]["note"] == "", name
        assert all(row["value"] is not None or row["note"] for row in own)
    assert all(row["rehearsal"] and row["device"] == "cpu" for row in rows)
    assert printed.rstrip().endswith((out / "table.txt").read_text("utf-8").rstrip()[-200:])
    return rows


@pytest.mark.slow
def test_a_rehearsal_runs_a_section_to_its_end(tmp_path):
    rehearsed(tmp_path, CHEAPEST)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_rehearsal_runs_every_section_to_its_end(tmp_path):
    rows = rehearsed(tmp_path, [section.name for section in SECTIONS])
    errors = [row for row in rows if "in fp32, relative error to the CPU's" in row["what"]]
    assert len(errors) >= 5 and all(row["value"] == 0 for row in errors)  # the device is the CPU here


@pytest.mark.slow
def test_a_run_that_is_killed_keeps_what_it_had(tmp_path):
    process = rehearsal(tmp_path, "--sections", "versions,loading")
    file, until = tmp_path / "rows.jsonl", time.monotonic() + 250
    while time.monotonic() < until and (not file.exists() or len(file.read_bytes().splitlines()) < 11):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    rows = read(tmp_path)
    assert len(rows) >= 11 and rows[0]["what"] == "version of torch"
    assert not (tmp_path / "table.txt").exists()


def test_an_unknown_section_is_refused_with_those_there_are(tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["--rehearse", "--out", str(tmp_path), "--sections", "nonsense"])
    assert refused.value.code == 2 and not list(tmp_path.iterdir())
    assert "no section nonsense; there are versions, loading" in capsys.readouterr().err


def check(tmp_path: Path, budget: float = 100.0) -> Check:
    return Check("cpu", tmp_path, False, 1, budget)


def one_row(_check: Check) -> Iterator[Row]:
    yield Row("a figure", 2.0, "s", 4.0, most=0.6)


def failing(_check: Check) -> Iterator[Row]:
    yield Row("before", 1.0)
    raise RuntimeError("nothing works")


def endless(_check: Check) -> Iterator[Row]:
    yield Row("begun", 1.0)
    while True:
        time.sleep(0.01)


def test_a_section_beyond_the_budget_is_skipped_and_named_and_a_failure_is_a_row(tmp_path):
    whole = check(tmp_path)
    rows = RowFile(tmp_path / "rows.jsonl", whole)
    ran = run(whole, [Section("long", 1000, one_row), Section("broken", 1, failing), Section("good", 1, one_row)], rows)
    assert not ran and read(tmp_path) == rows.rows
    skipped, before, broken, figure, good = rows.rows
    assert skipped["section"] == "long" and skipped["note"].startswith("skipped: its 1000 s do not fit, 100 s are left")
    assert before["value"] == 1 and broken["note"] == "failed: RuntimeError: nothing works"
    assert (figure["ratio"], figure["met"], good["note"]) == (0.5, True, "")
    assert run(whole, [Section("good", 1, one_row)], rows)
    shown = table(rows.rows)
    assert "2 s against 4, ratio 0.5 (goal ≤ 0.6: met)" in shown and "nothing works" in shown


def test_a_section_is_cut_off_at_its_deadline_and_keeps_its_rows(tmp_path):
    whole = check(tmp_path)
    rows = RowFile(tmp_path / "rows.jsonl", whole)
    assert not run(whole, [Section("endless", 0.1, endless), Section("good", 1, one_row)], rows)
    assert [row["what"] for row in rows.rows] == ["begun", "section", "a figure", "section"]
    assert rows.rows[1]["note"].startswith("cut off after")


def test_late_runs_leave_out_compiling_first_then_large_batches_then_png(tmp_path):
    ahead = [Section("first", 60, one_row), Section("compile", 50, one_row)]
    for budget, cut in (
        (120, set()),
        (100, {"compile"}),
        (55, {"compile", "sdxl batch 8"}),
        (41, set(sections.CUT_ORDER)),
    ):
        assert sections.late(ahead, check(tmp_path, budget)) == cut
    rows = RowFile(tmp_path / "rows.jsonl", check(tmp_path))
    late = check(tmp_path, 100)
    assert not run(late, ahead, rows) and [row["section"] for row in rows.rows] == ["first", "first", "compile"]


def test_a_goal_is_about_the_ratio_or_else_the_value():
    assert Row("x", 3.0, "", 4.0, least=0.7).met and not Row("x", 3.0, "", 4.0, least=0.8).met
    assert Row("x", 0.5, most=0.5).met and not Row("x", 0.51, most=0.5).met
    assert Row("x", 0.5).met is None and Row("x", note="why", most=1.0).met is None


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["sd1", "sdxl"])
def test_a_pipeline_made_elsewhere_reckons_its_schedule_on_the_host(layout):
    """As on a GPU, whose numbers are not to be read on the host: here nothing at all is behind the weights."""
    pipe = published.pipeline(layout, 16, device="meta")
    assert pipe.unet.device.type == pipe.text_encoder.device.type == "meta"
    pipe.scheduler.set_timesteps(3)
    assert torch.isfinite(pipe.scheduler.timesteps).all()
