"""`konomi doctor --deep`: each damaged thing is named with the way back, and nothing is changed by looking."""

import json
import os
import sqlite3
from pathlib import Path

import pytest
import typer

from konomi.cli.doctor import command, elsewhere, integrity
from konomi.cli.doctor.integrity import examine_deeply
from konomi.home import Home
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import open_database
from konomi_rater.storage import collected, image_records, labels, tastes
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import MIGRATIONS as RATER
from konomi_trainer.storage.schema import MIGRATIONS as TRAINER


@pytest.fixture
def home(tmp_path):
    """A home with a taste of five labels, and a database of another library."""
    store = ArtifactStore(StoreSettings(home=tmp_path, min_free_bytes=0))
    digests = [store.put(b"image %d" % number, "image/png").digest for number in range(3)]
    open_database(tmp_path / "databases" / "trainer.sqlite", TRAINER).dispose()
    engine = open_rater(tmp_path)
    with engine.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        for digest in digests:
            image_records.add(connection, "t", ImageFacts(digest, 1), (8, 8), 0.0)
        for number in range(5):
            labels.record(connection, "t", [NewLabel(digests[number % 3], 1 + number % 5)], 1.0)
    engine.dispose()
    with sqlite3.connect(tmp_path / "databases" / "night.sqlite") as night:
        night.execute("CREATE TABLE steps (step INTEGER)")
    return Home(tmp_path)


def open_rater(root):
    return open_database(root / "databases" / "rater.sqlite", RATER)


def flip(path, place, bit=1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def contents(root):
    return {path: path.read_bytes() for path in Path(root).rglob("*") if path.is_file() and path.suffix != ".lock"}


def artifact(home, number):
    names = sorted(path for path in (home.root / "artifacts").rglob("*") if len(path.name) == 64)
    return names[number]


def seen(home):
    return [(finding.name, finding.state, finding.detail, finding.fix) for finding in examine_deeply(home)]


@pytest.mark.slow
def test_a_healthy_home_running_or_not(home):
    before = contents(home.root)
    assert [(name, state, detail) for name, state, detail, _ in seen(home)] == [
        ("database", "ok", "night.sqlite: readable; it has no checksums"),
        ("database", "ok", f"rater.sqlite: {pages(home, 'rater')} pages, every checksum right"),
        ("database", "ok", f"trainer.sqlite: {pages(home, 'trainer')} pages, every checksum right"),
        ("artifacts", "ok", "artifacts: 3 read, all whole"),
        ("labels", "ok", "tastes/t: 5 read, all whole"),
        ("images", "ok", "tastes/t: 3 read, all whole"),
    ]
    assert contents(home.root) == before
    engine = open_rater(home.root)
    held = seen(home)
    engine.dispose()
    assert held[1][1] == "ok" and held[1][2].endswith("its log was not read: konomi runs and has it open")
    assert held[4][:3] == ("labels", "ok", "tastes/t: 5 read, all whole")
    assert contents(home.root) == before


def pages(home, name):
    return (home.root / "databases" / f"{name}.sqlite").stat().st_size // 4096


@pytest.mark.slow
def test_each_damaged_thing_is_named_with_the_way_back(home):
    damaged, mistyped, lost = (artifact(home, number) for number in range(3))
    engine = open_rater(home.root)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER labels_UPDATE")
        connection.exec_driver_sql("UPDATE labels SET grade = 5 WHERE sequence = 3")
        connection.exec_driver_sql(
            "INSERT INTO rater_versions VALUES ('t', 1, 0, 5, 'h', 'starter', '{}', '[]', '[]', ?, '', 0)",
            (damaged.name,),
        )
    engine.dispose()
    flip(damaged, 2)
    flip(mistyped.with_name(f"{mistyped.name}.type"), 2)
    lost.unlink()
    flip(home.root / "databases" / "trainer.sqlite", 5 * 4096 + 77)
    findings = {(name, state): (detail, fix) for name, state, detail, fix in seen(home)}
    detail, fix = findings["database", "fail"]
    assert detail == "trainer.sqlite: The database trainer.sqlite is damaged (page 6 fails its checksum)."
    assert "put a backup in the place of trainer.sqlite" in fix and "konomi taste import" in fix
    artifacts = [detail for name, state, detail, _ in seen(home) if (name, state) == ("artifact", "fail")]
    assert any(damaged.name in line and "put it again" in line for line in artifacts)
    assert any(mistyped.name in line and "media type" in line for line in artifacts)
    assert findings["labels", "fail"][0].startswith("tastes/t: label 3 of tastes/t differs from its hash chain")
    assert (
        f"1 of 3 images of tastes/t have no bytes in the store, the first is {lost.name}"
        in (findings["images", "fail"][0])
    )
    assert "tastes/t/raterVersions/1" in findings["rater version", "fail"][0]
    assert "fit the rater again" in findings["rater version", "fail"][0]


@pytest.mark.slow
def test_pixels_that_were_collected_are_no_damage_and_one_lost_besides_is(home):
    """Two images went by the policy; of one of them the database of a backup does not know, but the store does."""
    digests = [artifact(home, number).name for number in range(3)]
    store = ArtifactStore(StoreSettings(home=home.root, min_free_bytes=0))
    engine = open_rater(home.root)
    with engine.begin() as connection:
        collected.note_collected(connection, collected.standings(connection, "t", digests[:1]), {}, "a policy", 1.0)
    engine.dispose()
    store.discard(digests[:2], None)
    artifact_path = home.root / "artifacts" / digests[0][:2] / f"{digests[0]}.gone"
    artifact_path.unlink()  # as in a home the taste was carried to
    assert [(name, state) for name, state, *_ in seen(home) if name in ("artifacts", "images")] == [
        ("artifacts", "ok"),
        ("images", "ok"),
    ]
    (home.root / "artifacts" / digests[2][:2] / digests[2]).unlink()
    (problem,) = [detail for name, state, detail, _ in seen(home) if (name, state) == ("images", "fail")]
    assert f"1 of 3 images of tastes/t have no bytes in the store, the first is {digests[2]}" in problem


@pytest.mark.slow
def test_a_home_of_before_images_could_be_collected_is_read_as_it_is(home):
    path = home.root / "databases" / "rater.sqlite"
    path.unlink()
    engine = open_database(path, RATER[:9])
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO tastes VALUES ('t', 'u', '', 'starter', 'starter', 0, 0)")
        columns = (
            "taste, digest, source, prompt, seed, unit, night, parents, licence, consent, parameters, width, height"
        )
        row = f"'t', '{artifact(home, 0).name}', 1, '', 0, '', '', '[]', '', '', '{{}}', 8, 8"
        connection.exec_driver_sql(f"INSERT INTO images ({columns}, created) VALUES ({row}, 0.0)")
    engine.dispose()
    assert [detail for name, state, detail, _ in seen(home) if (name, state) == ("images", "ok")] == [
        "tastes/t: 1 read, all whole"
    ]


@pytest.mark.slow
def test_a_damaged_log_after_a_kill(home, tmp_path):
    engine = open_rater(home.root)
    with engine.begin() as connection:
        tastes.create(connection, "u", "", "starter", "starter", 0.0)
    for ending in ("", "-wal", "-committed"):  # as a kill leaves them
        (tmp_path / f"copy{ending}").write_bytes((home.root / "databases" / f"rater.sqlite{ending}").read_bytes())
    engine.dispose()
    for ending in ("", "-wal", "-committed"):
        os.replace(tmp_path / f"copy{ending}", home.root / "databases" / f"rater.sqlite{ending}")
    before = contents(home.root)
    assert all(state == "ok" for _, state, _, _ in seen(home))
    assert {path: data for path, data in contents(home.root).items() if not path.name.endswith("-shm")} == before
    flip(home.root / "databases" / "rater.sqlite-wal", 32 + 24 + 500)
    findings = seen(home)
    assert ("database", "fail") in {(name, state) for name, state, _, _ in findings}
    assert any("The log rater.sqlite-wal, which holds the last changes" in detail for _, _, detail, _ in findings)
    assert findings[-1][0] == "integrity" and "not everything could be read" in findings[-1][2]


def test_the_command_fails_and_says_it_in_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "examine", lambda home: [])
    lines = [
        {"kind": "artifact", "name": "ab", "problem": "It is damaged. Put it again.", "count": 0},
        {"kind": "database", "name": "rater.sqlite", "problem": "", "count": 3, "checked": False, "held": False},
    ]
    code = f"print({json.dumps(lines[0])!r}); print({json.dumps(lines[1])!r})"
    script = tmp_path / "reader.py"
    script.write_text(code)
    monkeypatch.setattr(integrity, "READERS", (("reader",),))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path))
    with pytest.raises(typer.Exit) as caught:
        command.doctor(deep=True, as_json=True)
    assert caught.value.exit_code == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["ok"] is False
    assert [check["state"] for check in said["checks"]] == ["fail", "warn"]
    assert "without checksums" in said["checks"][1]["detail"] and "apsw" in said["checks"][1]["fix"]


def test_without_a_home_there_is_nothing_to_read(tmp_path):
    (finding,) = examine_deeply(Home(tmp_path / "none"))
    assert (finding.state, finding.detail) == ("ok", "no home yet; nothing to read")
    monkey = pytest.MonkeyPatch()
    monkey.setattr(integrity, "missing", lambda extra: ["faiss"])
    (finding,) = examine_deeply(Home(tmp_path))
    monkey.undo()
    assert finding.state == "fail" and "rater" in finding.fix


def test_a_home_that_stands_on_itself_asks_nobody_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere.subprocess, "run", None)
    (tmp_path / "konomi.toml").write_text('[database]\nurl = ""\n[store]\nmin_free_bytes = 1\n[scale]\nactors = 1\n')
    assert list(elsewhere.elsewhere(Home(tmp_path), {})) == []
    (tmp_path / "konomi.toml").write_text("[database\n")
    assert list(elsewhere.elsewhere(Home(tmp_path), {})) == []


@pytest.mark.slow
def test_what_lies_elsewhere_and_cannot_be_had_is_said_with_what_to_do_and_without_its_password(tmp_path):
    secret = "postgresql://me" + ":hush" + "@127.0.0.1:1/konomi"
    (tmp_path / "konomi.toml").write_text(f'[database]\nurl = "{secret}"\n[store]\nurl = "s3://"\n')
    database, bucket = elsewhere.elsewhere(Home(tmp_path), {})
    assert (database.name, database.state, bucket.name, bucket.state) == ("database", "fail", "bucket", "fail")
    assert "database konomi at 127.0.0.1:1" in database.detail and "hush" not in database.detail
    assert "one without a bucket" in bucket.detail
    (tmp_path / "konomi.toml").write_text('[database]\nurl = "postgresql://x/y"\nwrong = 1\n')
    (refused,) = elsewhere.elsewhere(Home(tmp_path), {})
    assert refused.state == "fail" and "wrong" in refused.detail and "konomi.toml" in refused.fix


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["executor", "train_executor"])
def test_a_cluster_any_work_is_given_to_is_asked_for(tmp_path, executor):
    (tmp_path / "konomi.toml").write_text(f'[scale]\n{executor} = "ray"\naddress = "127.0.0.1:1"\n')
    (cluster,) = elsewhere.elsewhere(Home(tmp_path), {})
    assert (cluster.name, cluster.state) == ("cluster", "fail")
    assert 'There is no Ray cluster at "127.0.0.1:1"' in cluster.detail


@pytest.mark.slow
def test_a_database_and_a_folder_elsewhere_answer(tmp_path, postgresql, monkeypatch):
    (tmp_path / "konomi.toml").write_text(f'[store]\nurl = "file://{tmp_path}/kept"\n')
    monkeypatch.setenv("KONOMI_DATABASE_URL", postgresql.database())
    database, bucket = elsewhere.elsewhere(Home(tmp_path))
    assert (database.state, bucket.state) == ("ok", "ok"), (database.detail, bucket.detail)
    assert "the PostgreSQL database" in database.detail and "kept" in bucket.detail
    with postgresql.setting("synchronous_commit", "off"):
        database, _ = elsewhere.elsewhere(Home(tmp_path))
    assert database.state == "fail" and "synchronous_commit" in database.detail
