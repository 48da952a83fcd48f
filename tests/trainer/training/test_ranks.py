"""A run trained by two real processes: the same weights as by one, the same after a kill, a clear end when one dies."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.data.tensors import unpack
from konomi_trainer.training.ranks import Group
from tests.trainer.conftest import Bench

pytestmark = pytest.mark.slow


def others(parent: int, module: str = "konomi_trainer.jobs.rank_process") -> list[int]:
    """Returns the processes of a module below a process; a thread or a child that ends meanwhile is none."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in map(int, (task / "children").read_text().split()):
                if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
    return found


def test_two_processes_learn_what_one_learns(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = []
    shutil.copytree(home, tmp_path / "second")  # in one home the second run would be the first one again
    for processes, place in (("1", home), ("2", tmp_path / "second")):
        monkeypatch.setenv("KONOMI_PROCESSES", processes)
        bench = Bench(place).start()
        try:
            manifest = bench.manifest(5)
            model = bench.trained(manifest, steps=4, batch_size=3, gradient_accumulation=2)
            adapters.append(unpack(bench.store.get(model.adapter_digest))[0])
        finally:
            bench.stop()
    one, two = adapters
    assert one.keys() == two.keys() and any(tensor.abs().max() > 1e-4 for tensor in one.values())
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-5
    assert not others(os.getpid())


def test_a_lost_process_ends_the_run_in_a_sentence_and_it_can_be_started_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KONOMI_PROCESSES", "2")
    bench = Bench(home).start()
    try:
        request = bench.request(bench.manifest(5), steps=100_000, checkpoint_steps=2)
        run = bench.client.trainer.create_training_run(request).name
        deadline = time.monotonic() + 120
        while bench.client.trainer.get_training_run(name=run).step < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        (other,) = others(os.getpid())
        os.kill(other, signal.SIGKILL)
        ended = bench.finish(run)
        assert ended.state == pb.TRAINING_STATE_FAILED
        assert "one of them has ended" in ended.error.message
    finally:
        bench.stop()


@pytest.mark.parametrize("rows", [1, 2, 5, 16])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_every_row_is_computed_once(rows: int, count: int) -> None:
    class State:
        def __init__(self, number: int) -> None:
            self.process_index, self.num_processes, self.device = number, count, "cpu"

    parts = [Group(State(number)).share(rows) for number in range(count)]  # type: ignore[arg-type]
    assert [row for part in parts for row in part] == list(range(rows))
