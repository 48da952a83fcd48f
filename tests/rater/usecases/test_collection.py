"""Which pixels go and which stay, rule by rule, over a real database and a real store; kills at every step."""

import json
import uuid

import pytest
from sqlalchemy import text

from konomi.errors import FailedPrecondition, NotFound
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import open_database, reading
from konomi_rater.selection.certificate import AuditLimits
from konomi_rater.selection.selection import CONSENTED, IMPORTED
from konomi_rater.storage import audits, collected, image_records, labels
from konomi_rater.storage.audits import AuditRow, BlindAudit, BlindChoice, BlindPair, Terms
from konomi_rater.storage.schema import MIGRATIONS
from konomi_rater.usecases.collection import RetentionPolicy
from tests.rater.usecases.shelf import DAY, MONTH, NOW


def test_a_rejected_candidate_goes_its_record_stays_and_a_dry_run_says_so_before(shelf):
    digests = sorted(shelf.image() for _ in range(3))
    dry = shelf.run(dry=True)
    assert dry.digests == digests and all(map(shelf.store.exists, digests)) and not shelf.gone()
    done = shelf.run()
    assert (done.digests, done.size) == (dry.digests, dry.size) and not any(map(shelf.store.exists, digests))
    assert shelf.gone() == set(digests)
    with shelf.reading() as connection:
        rows = connection.execute(text("SELECT * FROM collected_images ORDER BY digest")).all()
        assert image_records.read(connection, "t", digests[0]).without_pixels
    assert [row.digest for row in rows] == digests and {row.returned for row in rows} == {0}
    assert {row.policy for row in rows} == {"rejected candidates older than 30 days, but those of the newest 0 units"}
    assert sum(row.bytes for row in rows) == done.size > 0
    again = shelf.run()
    assert again.digests == [] and {name: kind.count for name, kind in again.kinds.items()} == {"collected": 3}


def test_the_record_of_what_went_is_never_changed(shelf):
    shelf.image()
    shelf.run()
    for statement in ("UPDATE collected_images SET bytes = 0", "DELETE FROM collected_images"):
        with pytest.raises(Exception, match="append-only"), shelf.writing() as connection:
            connection.execute(text(statement))


def test_what_was_ever_graded_stays_even_where_the_grade_was_undone(shelf):
    shelf.label(shelf.image(), 1)
    undone = shelf.image()
    entry = shelf.label(undone, 3)
    with shelf.writing() as connection:
        labels.undo(connection, "t", entry.sequence, NOW)
    assert shelf.reason(undone) == "graded"


def test_a_member_of_the_panel_stays(shelf):
    digest = shelf.image()
    with shelf.writing() as connection:
        connection.execute(text("INSERT INTO panel VALUES ('t', :d, 0)"), {"d": digest})
    assert shelf.reason(digest) == "panel"


def test_both_of_a_comparison_stay(shelf):
    winner, loser = shelf.image(), shelf.image()
    with shelf.writing() as connection:
        connection.execute(
            text(
                "INSERT INTO comparisons (taste, sequence, winner, loser, tie, labeller, created) "
                "VALUES ('t', 1, :w, :l, 0, 'owner', 0)"
            ),
            {"w": winner, "l": loser},
        )
    assert shelf.reason(winner) == shelf.reason(loser) == "compared"


def test_both_of_a_blind_pair_stay(shelf):
    unit, against = shelf.image(), shelf.image()
    audit = BlindAudit("t", "n1", "u1", "base", (BlindPair(unit, against, BlindChoice.TIE),))
    with shelf.writing() as connection:
        audits.record_unit(connection, audit, NOW)
    assert shelf.reason(unit) == shelf.reason(against) == "audited"


def certified(shelf, members):
    document = json.dumps({"schema": "konomi.set/1", "digests": members}).encode()
    listing = shelf.store.put(document, "application/json").digest
    row = AuditRow("t", 0, listing, Terms(AuditLimits(0.1, 0.1, 1), 4, (len(members),)), 0, 0, NOW, "")
    with shelf.writing() as connection:
        return audits.add(connection, row)


def test_every_member_of_an_audited_set_stays_shown_or_not(shelf):
    digest = shelf.image()
    certified(shelf, [digest])
    assert shelf.reason(digest) == "certified"


def test_an_answer_of_an_audit_keeps_its_image(shelf):
    digest = shelf.image()
    audit = certified(shelf, [])
    with shelf.writing() as connection:
        audits.record(connection, audit, [audits.Answer(digest, 4, "owner", NOW)])
    assert shelf.reason(digest) == "audited"


def test_an_image_of_a_slate_stays(shelf):
    digest = shelf.image()
    with shelf.writing() as connection:
        connection.execute(text("INSERT INTO slate_images VALUES ('t', 's', :d, 0, 0)"), {"d": digest})
    assert shelf.reason(digest) == "laid_out"


@pytest.mark.parametrize("source", [IMPORTED, CONSENTED, 3])
def test_what_was_not_made_here_stays(shelf, source):
    assert shelf.reason(shelf.image(source=source, consent="c" if source == CONSENTED else "")) == "imported"


def test_what_the_base_model_made_stays_for_the_share_every_fit_takes_of_it(shelf):
    assert shelf.reason(shelf.image(unit="base")) == "base"


@pytest.mark.parametrize("missing", ["night", "unit"])
def test_what_was_made_outside_a_night_stays(shelf, missing):
    assert shelf.reason(shelf.image(**{missing: ""})) == "single"


def test_what_another_image_was_made_from_stays(shelf):
    digest = shelf.image()
    shelf.image(parents=(digest,), days=1)
    kinds = shelf.run().kinds
    assert (kinds["parent"].count, kinds["recent"].count) == (1, 1) and shelf.store.exists(digest)


def test_nothing_of_a_taste_goes_while_its_embedder_is_changed(shelf):
    digest = shelf.image()
    with shelf.writing() as connection:
        connection.execute(text("INSERT INTO embedder_changes VALUES ('t', 'timm:x/y', 0, 0)"))
    assert shelf.reason(digest) == "embedder_changing"


def test_what_the_caller_names_stays(shelf):
    digest = shelf.image()
    assert shelf.reason(digest, RetentionPolicy(30 * DAY, keep=frozenset({digest}))) == "selected"


def test_what_a_manifest_names_stays_and_one_that_cannot_be_read_lets_nothing_go(shelf):
    digest = shelf.image()
    manifest = shelf.store.put(json.dumps({"items": [{"digest": digest}]}).encode(), "application/json").digest
    assert shelf.collecting.keep_named([manifest]) == {digest}
    with pytest.raises(FailedPrecondition, match="it names images that must stay") as caught:
        shelf.collecting.keep_named([manifest, "f" * 64])
    assert caught.value.reason == "KEPT_UNREADABLE"


def test_images_of_a_night_under_way_stay(shelf):
    digest = shelf.image(night="n2")
    assert shelf.reason(digest, RetentionPolicy(30 * DAY, nights=frozenset({"n2"}))) == "night_under_way"


def test_the_newest_units_stay_and_the_older_go(shelf):
    old, middle, new = shelf.image(unit="u1"), shelf.image(unit="u2"), shelf.image(unit="u3")
    assert shelf.run(RetentionPolicy(30 * DAY, keep_units=2)).digests == [old]
    assert shelf.store.exists(middle) and shelf.store.exists(new)
    assert shelf.run(RetentionPolicy(30 * DAY, keep_units=1)).digests == [middle]


def test_what_is_younger_than_the_policy_says_stays_and_zero_is_never(shelf):
    young = shelf.image(days=29)
    assert shelf.reason(young) == "recent"
    shelf.image(days=4000)
    assert shelf.run(RetentionPolicy(0.0)).kinds["recent"].count == 2
    shelf.now += 2 * DAY
    assert len(shelf.run().digests) == 2


def test_what_was_put_or_chosen_within_a_day_stays(shelf):
    digest = shelf.image()
    shelf.store.use([digest])
    shelf.age(digest, 0.9)
    assert shelf.reason(digest) == "in_use"
    shelf.age(digest, 1.1)
    assert shelf.run().digests == [digest]


def test_what_another_taste_needs_stays_and_what_none_needs_goes_from_all(shelf):
    shelf.taste("other")
    both = shelf.image(data=b"both")
    shelf.image("other", data=b"both")
    needed = shelf.image(data=b"needed")
    shelf.image("other", data=b"needed")
    shelf.label(needed, 4, "other")
    kinds = shelf.run(taste="t", dry=True).kinds
    assert (kinds["other_taste"].count, kinds["rejected"].count) == (1, 1)
    assert shelf.run(taste="t").digests == [both]
    assert shelf.gone("t") == shelf.gone("other") == {both}


def test_an_unknown_taste_is_refused(shelf):
    with pytest.raises(NotFound, match="no tastes/nobody"):
        shelf.run(taste="nobody")


def test_a_store_of_another_place_is_left_alone_and_that_is_said(shelf, tmp_path):
    digest = shelf.image()
    url = f"memory://{uuid.uuid4()}"
    shelf.store = ArtifactStore(StoreSettings(home=tmp_path, url=url, min_free_bytes=0))
    assert shelf.store.put(b"image 1", "image/png").digest == digest
    assert {name: kind.count for name, kind in shelf.run(dry=True).kinds.items()} == {"elsewhere": 1}
    with pytest.raises(FailedPrecondition, match="nothing was removed"):
        shelf.run()
    assert shelf.store.exists(digest) and not shelf.gone()


def test_many_go_page_by_page(shelf, monkeypatch):
    monkeypatch.setattr("konomi_rater.usecases.collection.MOST", 3)
    monkeypatch.setattr("konomi_rater.usecases.collection.BATCH", 2)
    digests = sorted(shelf.image() for _ in range(7))
    for dry in (True, False):
        names, token, calls = [], "", 0
        while token or not calls:
            done = shelf.collecting.run("", MONTH, token, dry=dry)
            names, token, calls = names + done.digests, done.next_token, calls + 1
        assert (names, calls) == (digests, 3)


def test_a_grade_that_comes_between_record_and_removal_keeps_the_pixels(shelf, monkeypatch):
    digest, other = shelf.image(), shelf.image()
    monkeypatch.setattr(
        "konomi_rater.usecases.collection.failpoint",
        lambda name: shelf.label(digest, 5) if name == "collection.after_record" else None,
    )
    assert shelf.run().digests == [other]
    assert shelf.store.exists(digest) and shelf.gone() == {other}
    with shelf.reading() as connection:
        log = connection.execute(
            text("SELECT returned, policy FROM collected_images WHERE digest = :d ORDER BY sequence"), {"d": digest}
        ).all()
    assert [tuple(row) for row in log][1] == (1, "in use again")


def test_bytes_put_between_record_and_removal_stay(shelf, monkeypatch):
    digest = shelf.image()

    def put_again(name):
        if name == "collection.after_record":
            shelf.store.put(b"image 1", "image/png")
            shelf.age(digest, 0)

    monkeypatch.setattr("konomi_rater.usecases.collection.failpoint", put_again)
    assert shelf.run().digests == [] and shelf.store.exists(digest) and not shelf.gone()


def test_an_image_that_stays_after_a_run_was_cut_short_is_not_called_collected_any_more(shelf, monkeypatch):
    digest = shelf.image()

    def cut(name):
        if name == "collection.after_record":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("konomi_rater.usecases.collection.failpoint", cut)
        with pytest.raises(KeyboardInterrupt):
            shelf.run()
    assert shelf.gone() == {digest} and shelf.store.exists(digest)
    shelf.label(digest, 5)
    shelf.run(dry=True)
    assert shelf.gone() == {digest}, "a dry run changes nothing"
    assert shelf.run().digests == [] and shelf.store.exists(digest) and not shelf.gone()


def test_bytes_that_came_back_without_a_word_go_again(shelf):
    digest = shelf.image()
    shelf.run()
    shelf.store.put(b"image 1", "image/png")
    shelf.age(digest)
    assert shelf.run().digests == [digest] and not shelf.store.exists(digest)


def test_what_went_after_a_backup_is_known_again_after_the_next_run(shelf):
    digest, lost = shelf.image(), shelf.image()
    shelf.store.discard([digest], None)  # the database, restored since, does not know it
    path = shelf.home / "artifacts" / lost[:2] / lost
    path.unlink()  # damage, of which nobody made a note
    shelf.run(dry=True)
    assert shelf.gone() == set(), "a dry run changes nothing"
    shelf.run()
    assert shelf.gone() == {digest}


def test_something_else_in_the_place_of_pixels_stops_nobody_and_stays(shelf):
    digest, other = shelf.image(), shelf.image()
    path = shelf.home / "artifacts" / digest[:2] / digest
    path.unlink()
    path.symlink_to("/etc/hostname")
    done = shelf.run()
    assert done.digests == [other] and done.kinds["absent"].count == 1
    assert path.is_symlink() and shelf.gone() == {other}


def test_an_older_home_gains_the_tables_and_loses_nothing(tmp_path):
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS[:9])
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tastes VALUES ('t', 'uid', '', 'starter', 'starter', 0, 0)"))
        connection.execute(
            text(
                "INSERT INTO images (taste, digest, source, prompt, seed, unit, night, parents, licence, consent, "
                "parameters, width, height, created) VALUES ('t', 'd', 1, '', 0, 'u', 'n', '[]', '', '', '{}', 1, 1, 0)"
            )
        )
    engine.dispose()
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS)
    with reading(engine) as connection:
        assert not image_records.read(connection, "t", "d").without_pixels
        assert not collected.without_pixels(connection, "t")
    engine.dispose()
