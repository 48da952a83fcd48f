"""Views and triggers of the rater's newest form in PostgreSQL: each does what the SQLite trigger of its name does."""

from konomi_chassis.storage.schema import append_only

APPEND_ONLY = (
    "labels",
    "comparisons",
    "panel",
    "certificates",
    "audit_answers",
    "audits_ended",
    "blind_audits",
    "blind_pairs",
    "consents",
    "revoked_consents",
    "revoked_images",
    "slate_maps",
    "slate_bets",
    "slate_images",
    "collected_images",
)
"""Tables whose rows are never changed and never deleted."""

_VIEWS = tuple(
    f"""
    CREATE VIEW {table}_standing AS
    SELECT * FROM {table} AS l WHERE l.undoes IS NULL
    AND NOT EXISTS (SELECT 1 FROM {table} AS u WHERE u.taste = l.taste AND u.undoes = l.sequence)
    """
    for table in ("labels", "comparisons")
)


def _trigger(name: str, event: str, body: str, condition: str = "") -> tuple[str, str]:
    """Returns a trigger that runs statements after every row, and its function."""
    function = f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$"
    when = f"WHEN ({condition})" if condition else ""
    return function, f"CREATE TRIGGER {name} AFTER {event} FOR EACH ROW {when} EXECUTE FUNCTION {name}()"


_TAKE_FORCE = """
IF EXISTS (SELECT 1 FROM revoked_images AS r WHERE r.taste = NEW.taste AND r.digest = NEW.digest) THEN
    RETURN NULL;
END IF;
DELETE FROM labels_in_force AS f WHERE f.taste = NEW.taste AND f.digest = NEW.digest;
INSERT INTO labels_in_force SELECT l.taste, l.digest, l.sequence, l.grade, l.labeller, l.reason, l.created
FROM labels_standing AS l WHERE l.taste = NEW.taste AND l.digest = NEW.digest
ORDER BY l.reason = 4 AND l.grade > 0, l.sequence DESC LIMIT 1;
"""
_FORGET = """
INSERT INTO images_forgotten (taste, "row") VALUES (OLD.taste, OLD."row");
DELETE FROM embeddings AS e WHERE e.digest = OLD.digest AND NOT EXISTS (
    SELECT 1 FROM tastes AS t CROSS JOIN images AS i WHERE i.taste = t.id AND i.digest = OLD.digest
);
"""
_LOSE_FORCE = """
DELETE FROM labels_in_force AS f WHERE f.taste = OLD.id;
DELETE FROM taste_counts AS c WHERE c.taste = OLD.id;
"""
_WITHDRAW = "DELETE FROM labels_in_force AS f WHERE f.taste = NEW.taste AND f.digest = NEW.digest;"
_NEED_NO_PIXELS = "DELETE FROM images_without_pixels AS w WHERE w.taste = OLD.taste AND w.digest = OLD.digest;"
_BE_NO_FAVOURITES = "DELETE FROM favourites AS f WHERE f.taste = OLD.taste AND f.digest = OLD.digest;"


def _counted(table: str, column: str, condition: str = "") -> tuple[str, ...]:
    """Returns the triggers that count a table's rows in `taste_counts`."""
    made: tuple[str, ...] = ()
    for verb, row, sign in (("INSERT", "NEW", "+"), ("DELETE", "OLD", "-")):
        body = f"UPDATE taste_counts AS c SET {column} = c.{column} {sign} 1 WHERE c.taste = {row}.taste;"
        name = f"{table}_{verb.lower()}_is_counted"
        made += _trigger(name, f"{verb} ON {table}", body, condition.format(row=row))
    return made


STATEMENTS = (
    *_VIEWS,
    *append_only(APPEND_ONLY),
    *_trigger("labels_take_force", "INSERT ON labels", _TAKE_FORCE),
    *_trigger("revoked_images_lose_force", "INSERT ON revoked_images", _WITHDRAW),
    *_trigger("tastes_are_counted", "INSERT ON tastes", "INSERT INTO taste_counts VALUES (NEW.id, 0, 0);"),
    *_trigger("tastes_lose_force", "DELETE ON tastes", _LOSE_FORCE),
    *_counted("images", "images"),
    *_counted("labels_in_force", "graded", "{row}.grade > 0"),
    *_trigger("images_are_forgotten", "DELETE ON images", _FORGET),
    *_trigger("images_need_no_pixels", "DELETE ON images", _NEED_NO_PIXELS),
    *_trigger("images_are_no_favourites", "DELETE ON images", _BE_NO_FAVOURITES),
)
