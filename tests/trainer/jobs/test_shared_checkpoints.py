"""Checkpoints as artifacts: what is noted is kept and fetched, the rest is discarded, and damage costs steps only."""

from pathlib import Path

import pytest
import torch

from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_trainer.jobs.shared_checkpoints import NOTE, SharedCheckpoint, SharedRunFiles, fetch, share
from konomi_trainer.training.checkpoints import Checkpoints


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(StoreSettings(home=tmp_path / "service"))


def saved(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(step, {"weight/a": torch.full((3,), float(step))}, {"step": step})


def files_of(checkpoint: SharedCheckpoint) -> set[str]:
    return {checkpoint.tensors, checkpoint.record}


def test_another_machine_goes_on_from_the_newest_that_is_there(tmp_path: Path, store: ArtifactStore) -> None:
    here, elsewhere = Checkpoints(tmp_path / "here"), Checkpoints(tmp_path / "elsewhere" / "run")
    saved(here, 5, 10)
    noted = [share(here, step, store) for step in (5, 10)]
    assert fetch(elsewhere, [], store) == 0 and elsewhere.newest() is None
    assert fetch(elsewhere, noted, store) == 10
    assert elsewhere.files(10) == here.files(10) and torch.equal(
        elsewhere.newest().tensors["weight/a"], torch.full((3,), 10.0)
    )
    saved(elsewhere, 15)
    assert fetch(elsewhere, noted, store) == 15, "what it has itself is newer"


def test_a_checkpoint_that_is_gone_from_the_store_costs_steps_and_nothing_else(
    tmp_path: Path, store: ArtifactStore
) -> None:
    here, elsewhere = Checkpoints(tmp_path / "here"), Checkpoints(tmp_path / "elsewhere")
    saved(here, 5, 10)
    noted = [share(here, step, store) for step in (5, 10)]
    store.discard([noted[1].tensors], None)
    assert fetch(elsewhere, noted, store) == 5 and elsewhere.newest().step == 5


def test_what_is_noted_stays_and_what_is_older_or_of_an_ended_run_goes(tmp_path: Path, store: ArtifactStore) -> None:
    files, here = SharedRunFiles(tmp_path / "service", store), Checkpoints(tmp_path / "here")
    saved(here, 5, 10)
    five, ten = (share(here, step, store) for step in (5, 10))
    saved(here, 15)
    fifteen = share(here, 15, store)
    for checkpoint in (five, ten, fifteen, fifteen):
        files.note("run", checkpoint)
    files.note("other", ten)
    assert SharedRunFiles(tmp_path / "service", store).noted("run") == [ten, fifteen]
    assert files.unfinished() == ["other", "run"]
    assert set(store.digests()) == files_of(ten) | files_of(fifteen)
    files.forget("run")
    assert set(store.digests()) == files_of(ten), "the other run may go on from it"
    files.forget("other")
    assert not set(store.digests()) and not files.unfinished()


def test_from_a_bucket_nothing_is_discarded(tmp_path: Path, store: ArtifactStore) -> None:
    class Bucket:
        is_local = False

        def discard(self, digests: object, before: object) -> None:
            raise AssertionError("a bucket refuses")

    here = Checkpoints(tmp_path / "here")
    saved(here, 5)
    files = SharedRunFiles(tmp_path / "service", Bucket())
    files.note("run", share(here, 5, store))
    files.forget("run")
    assert not files.unfinished()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema": "other"}', b'{"schema": "konomi.shared-checkpoints/1"}']
)
def test_a_damaged_note_is_none(tmp_path: Path, store: ArtifactStore, content: bytes) -> None:
    files = SharedRunFiles(tmp_path / "service", store)
    (files.checkpoints / "run").mkdir(parents=True)
    (files.checkpoints / "run" / NOTE).write_bytes(content)
    assert files.noted("run") == []
