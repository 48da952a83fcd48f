"""A taste leaves one rater as artifacts and arrives at another one: the same to the bit, whole or not at all."""

import json
import uuid
from pathlib import Path

import pytest
import sqlalchemy

from konomi.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from konomi.v1 import artifact_pb2
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.auth.authentication import issue_token
from konomi_chassis.storage.database import reading
from konomi_rater.storage.schema import SCHEMA
from konomi_rater.usecases import snapshots
from tests.postgresql import Rows, beside
from tests.rater.conftest import Rater, grades_of, png, serving
from tests.rater.models_on_disk import write_second_model

BOTH_ENGINES = True


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory, models: Path, kept_in: Rows):
    """A rater on an empty home of its own."""
    home = tmp_path_factory.mktemp("other")
    (home / "models").symlink_to(models)
    kept_in.move(home, SCHEMA)
    with serving(home) as running:
        yield running


def export(rater: Rater, taste: str, images: bool = True) -> list[artifact_pb2.SnapshotArtifact]:
    return rater.stream("ExportTaste", pb.ExportTasteRequest(taste=taste, images=images))


def carry(there: Rater, here: Rater, parts: list[artifact_pb2.SnapshotArtifact]) -> str:
    """Copies artifacts from store to store and returns the digest of the rows."""
    for part in parts:
        here.put(there.store.get(part.artifact.digest), part.artifact.media_type)
    return parts[0].artifact.digest


def restore(rater: Rater, rows: str, **fields) -> pb.Taste:
    return rater.call("ImportTaste", pb.ImportTasteRequest(rows_digest=rows, request_id=str(uuid.uuid4()), **fields))


def scores(rater: Rater, taste: str, digests: list[str], strangers: list[bytes]) -> list[bytes]:
    """Scores known images in one call and strangers one by one: a stranger's bits may depend on its batch."""
    inputs = [[pb.ImageInput(digest=d) for d in digests], *([pb.ImageInput(content=data)] for data in strangers)]
    calls = [pb.ScoreImagesRequest(taste=taste, images=images, measure_diversity=True) for images in inputs]
    return [rater.call("ScoreImages", call).SerializeToString(deterministic=True) for call in calls]


def journal(rater: Rater, taste: str) -> list[pb.Label]:
    return list(rater.call("ListLabels", pb.ListLabelsRequest(taste=taste, page_size=1000)).labels)


def forged(rater: Rater, rows: str, change) -> str:
    """Returns the digest of rows whose every line went through `change`."""
    lines = [json.loads(line) for line in rater.store.get(rows).decode().splitlines()]
    found = [change(line) for line in lines]
    text = "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in found if line is not None)
    return rater.put(text.encode(), "application/json")


@pytest.fixture
def lived_in(rater: Rater, fitted):
    """A taste with two versions, an undone label, comparisons, a repeat, an audit and a selection behind it."""
    first = fitted.digests[:2]
    rater.call("RecordComparison", pb.RecordComparisonRequest(
        taste=fitted.taste, comparison=pb.Comparison(winner_digest=first[0], loser_digest=first[1]),
        request_id=str(uuid.uuid4()),
    ))  # fmt: skip
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[40:70]), reason=5)
    rater.call("UndoLabel", pb.UndoLabelRequest(taste=fitted.taste, request_id=str(uuid.uuid4())))
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[:5]), reason=4)
    rater.fit(fitted.taste, seed=3)
    rater.call("SelectImages", pb.SelectImagesRequest(taste=fitted.taste, policy="converge", count=10))
    rater.call("CertifySet", pb.CertifySetRequest(taste=fitted.taste, digests=fitted.digests[:40]))
    kept = pb.SetFavouritesRequest(taste=fitted.taste, digests=fitted.digests[7:9], favourite=True)
    rater.call("SetFavourites", kept)
    return fitted


def test_a_restored_taste_scores_the_same_to_the_bit_and_has_the_same_journal(rater, other, lived_in):
    parts = export(rater, lived_in.taste)
    kinds = {part.part for part in parts}
    assert parts[0].part == artifact_pb2.SNAPSHOT_PART_ROWS and len(parts) == len({p.artifact.digest for p in parts})
    assert {artifact_pb2.SNAPSHOT_PART_HEAD, artifact_pb2.SNAPSHOT_PART_CERTIFICATE} < kinds
    restored = restore(other, carry(rater, other, parts))
    assert restored == rater.call("GetTaste", pb.GetTasteRequest(name=lived_in.taste))
    strangers = [png((200, 30, 30), seed=900 + i) for i in range(4)]
    assert scores(other, lived_in.taste, lived_in.digests, strangers) == scores(
        rater, lived_in.taste, lived_in.digests, strangers
    )
    assert journal(other, lived_in.taste) == journal(rater, lived_in.taste)
    asked = pb.ListFavouritesRequest(taste=lived_in.taste)
    kept = other.call("ListFavourites", asked)
    assert kept == rater.call("ListFavourites", asked) and kept.total_size == 2
    asked = pb.ListRaterVersionsRequest(taste=lived_in.taste)
    assert other.call("ListRaterVersions", asked) == rater.call("ListRaterVersions", asked)
    listing = pb.ListImagesRequest(taste=lived_in.taste, page_size=1000, with_scores=True, order_by="novelty desc")
    assert other.call("ListImages", listing) == rater.call("ListImages", listing)


def test_a_snapshot_of_the_restored_is_the_snapshot_and_both_fit_alike(rater, other, lived_in):
    parts = export(rater, lived_in.taste)
    restore(other, carry(rater, other, parts))
    assert export(other, lived_in.taste) == parts
    mine, theirs = rater.fit(lived_in.taste, seed=9), other.fit(lived_in.taste, seed=9)
    assert mine.artifact_digest == theirs.artifact_digest and mine.metrics == theirs.metrics


def test_without_images_it_scores_and_fits_all_the_same(rater, other, fitted):
    parts = export(rater, fitted.taste, images=False)
    assert artifact_pb2.SNAPSHOT_PART_IMAGE not in {part.part for part in parts}
    restore(other, carry(rater, other, parts))
    assert scores(other, fitted.taste, fitted.digests[:9], []) == scores(rater, fitted.taste, fitted.digests[:9], [])


def test_under_another_name_the_labels_are_chained_anew_and_both_live_side_by_side(rater, fitted):
    rows = export(rater, fitted.taste)[0].artifact.digest
    restored = restore(rater, rows, taste="tastes/friend")
    assert restored.name == "tastes/friend" and restored.label_count == 40
    export(rater, "tastes/friend")  # verifies the chain
    one, two = (
        pb.ScoreImagesResponse.FromString(scores(rater, taste, fitted.digests[:5], [])[0])
        for taste in (fitted.taste, "tastes/friend")
    )
    assert [r.score.utility for r in one.results] == [r.score.utility for r in two.results]
    rater.label("tastes/friend", {fitted.digests[0]: 5})
    assert len(journal(rater, fitted.taste)) == 40 and len(journal(rater, "tastes/friend")) == 41


def test_an_existing_taste_stays_unless_it_shall_be_replaced(rater, other, fitted):
    theirs = other.taste()
    other.add(theirs, [pb.Image(digest=other.put(png((1, 2, 3))), source=pb.SOURCE_IMPORTED)])
    before = export(other, theirs)
    rows = carry(rater, other, export(rater, fitted.taste))
    with pytest.raises(AlreadyExists, match="stays as it is") as refused:
        restore(other, rows)
    assert refused.value.reason == "TASTE_EXISTS" and export(other, theirs) == before
    restore(other, rows, replace=True)
    assert export(other, theirs)[0].artifact.digest == rows
    assert scores(other, theirs, fitted.digests[:9], []) == scores(rater, fitted.taste, fitted.digests[:9], [])
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[40:60]))
    rater.fit(fitted.taste)
    restore(other, carry(rater, other, export(rater, fitted.taste)), replace=True)
    assert scores(other, theirs, fitted.digests[:9], []) == scores(rater, fitted.taste, fitted.digests[:9], [])


def test_labels_cannot_be_deleted_after_a_taste_was_replaced(rater, fitted):
    restore(rater, export(rater, fitted.taste)[0].artifact.digest, replace=True)
    with (
        pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"),
        beside(rater.home).begin() as connection,
    ):
        connection.exec_driver_sql("DELETE FROM labels")


def rename_column(line):
    return {"images": {**line["images"], "x); DROP TABLE labels; --": 1}} if "images" in line else line


def regrade(line):
    return {"labels": {**line["labels"], "grade": 5}} if line.get("labels", {}).get("sequence") == 3 else line


HOSTILE = {
    "a changed grade": (regrade, "hash chain"),
    "a label taken out": (lambda x: None if x.get("labels", {}).get("sequence") == 2 else x, "hash chain"),
    "another taste's row": (lambda x: {"panel": {"taste": "victim", "digest": "0" * 64, "joined": 1}} if "images" in x
                            else x, "another taste"),
    "SQL in a column": (rename_column, "column"),
    "a path as digest": (lambda x: {"images": {**x["images"], "digest": "../../etc/passwd"}} if "images" in x else x,
                         "no image may have"),
    "a version without head": (lambda x: None if "rater_versions" in x else x, "active version"),
    "an unknown table": (lambda x: {"requests": x["images"]} if "images" in x else x, "known table"),
    "two tastes": (lambda x: {"tastes": x["tastes"]} if "tastes" in x else ({"tastes": {}} if "images" in x else x),
                   "exactly the taste"),
    "a missing vector": (lambda x: {"images": {**x["images"], "digest": "0" * 64}} if "images" in x else x, "vector"),
    "a row number": (lambda x: {"images": {**x["images"], "row": 1}} if "images" in x else x, "column"),
    "a number too large": (lambda x: {"images": {**x["images"], "seed": 2**70}} if "images" in x else x, "do not fit"),
    "figures of no kind": (lambda x: {"rater_versions": {**x["rater_versions"], "metrics": "[1]"}}
                           if "rater_versions" in x else x, "do not fit"),
}  # fmt: skip


def test_rows_that_cannot_be_right_restore_nothing(rater, other, fitted):
    good = carry(rater, other, export(rater, fitted.taste))
    for name, (change, said) in HOSTILE.items():
        with pytest.raises(InvalidArgument, match=said) as refused:
            restore(other, forged(other, good, change))
        assert refused.value.reason == "SNAPSHOT_INVALID", name
        assert not other.call("ListTastes", pb.ListTastesRequest()).tastes, name
    newer = forged(other, good, lambda x: {**x, "schema": 99} if "schema" in x else x)
    with pytest.raises(FailedPrecondition, match="newer konomi") as refused:
        restore(other, newer)
    assert refused.value.reason == "SNAPSHOT_VERSION"
    with pytest.raises(InvalidArgument, match="first line"):
        restore(other, other.put(b'{"kind":"konomi.lineage","schema":1}\n', "application/json"))
    with pytest.raises(InvalidArgument, match="JSON lines"):
        restore(other, other.put(b"\x89PNG\r\n", "image/png"))
    assert restore(other, good).label_count == 40


def test_a_missing_artifact_is_named(rater, other, fitted):
    parts = export(rater, fitted.taste)
    head = next(part for part in parts if part.part == artifact_pb2.SNAPSHOT_PART_HEAD)
    carry(rater, other, [part for part in parts if part != head])
    with pytest.raises(NotFound, match=head.artifact.digest):
        restore(other, parts[0].artifact.digest)


def test_only_the_owner_takes_a_taste_along(rater, fitted):
    import grpc

    from konomi.errors import from_rpc_error
    from konomi.v1 import rater_pb2_grpc

    for scope in ("tool", "labeller", "service"):
        token = issue_token(rater.home, scope, scope, taste="default")
        with grpc.insecure_channel(rater.address) as channel:
            stub = rater_pb2_grpc.RaterServiceStub(channel)
            metadata = [("authorization", f"Bearer {token}")]
            for call in (
                lambda s=stub, m=metadata: list(s.ExportTaste(pb.ExportTasteRequest(taste=fitted.taste), metadata=m)),
                lambda s=stub, m=metadata: s.ImportTaste(pb.ImportTasteRequest(rows_digest="0" * 64), metadata=m),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    call()
                assert isinstance(from_rpc_error(refused.value), PermissionDenied)


def test_a_second_embedder_travels_with_its_vectors_and_what_was_found(rater, other, fitted, models):
    second = write_second_model(models)
    asked = pb.ChangeEmbedderRequest(taste=fitted.taste, embedder=second, second=True)
    kept = rater.stream("ChangeEmbedder", asked)[-1]
    rows = carry(rater, other, export(rater, fitted.taste))
    assert restore(other, rows).second_embedder == second
    name = kept.rater_version.name
    there = other.call("GetRaterVersion", pb.GetRaterVersionRequest(name=name))
    assert there.embedder_comparison == kept.rater_version.embedder_comparison and there.embedder_comparison.label_count
    for strange in ({"embedder": 7}, {"seed": "x"}):
        row = forged(other, rows, lambda x, s=strange: {"second_embedders": {**x["second_embedders"], **s}}
                     if "second_embedders" in x else x)  # fmt: skip
        with pytest.raises(InvalidArgument):
            restore(other, row, taste="tastes/forged")


def test_every_table_is_carried_or_left_behind_on_purpose(rows, tmp_path):
    engine = rows.open(tmp_path, SCHEMA)
    with reading(engine) as connection:
        carried = {table.name for table in snapshots.carried(connection)}
        rest = {table.name for table in snapshots.rows_file.read_tables(connection)} - carried
    engine.dispose()
    assert {"tastes", "images", "labels", "comparisons", "rater_versions", "certificates", "panel"} <= carried
    of_the_home = {"embeddings", "population_images", "requests"}
    assert rest == {*of_the_home, *snapshots.LEFT_BEHIND}


def test_a_head_of_another_konomi_keeps_no_label_back(rater, other, fitted):
    rows = carry(rater, other, export(rater, fitted.taste))
    strange = other.put(b"a head of another time", "application/octet-stream")
    swap = forged(other, rows, lambda x: {"rater_versions": {**x["rater_versions"], "artifact": strange}}
                  if "rater_versions" in x else x)  # fmt: skip
    assert restore(other, swap).label_count == 40
    with pytest.raises(DataLoss, match="fit the rater again"):
        scores(other, fitted.taste, fitted.digests[:3], [])
    assert other.fit(fitted.taste).active
    assert len(scores(other, fitted.taste, fitted.digests[:3], [])) == 1
