"""The tables of rater.sqlite, as numbered migrations; labels and comparisons refuse update and delete by trigger."""

from konomi_chassis.database import Migration

_APPEND_ONLY = """
CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
"""

MIGRATIONS = (
    Migration(
        1,
        (
            """
            CREATE TABLE tastes (
                id TEXT PRIMARY KEY, uid TEXT NOT NULL, display_name TEXT NOT NULL, embedder TEXT NOT NULL,
                base_model TEXT NOT NULL, created REAL NOT NULL, active INTEGER NOT NULL DEFAULT 0
            )
            """,
            """
            CREATE TABLE images (
                row INTEGER PRIMARY KEY AUTOINCREMENT, taste TEXT NOT NULL REFERENCES tastes (id), digest TEXT NOT NULL,
                source INTEGER NOT NULL, prompt TEXT NOT NULL, seed INTEGER NOT NULL, unit TEXT NOT NULL,
                night TEXT NOT NULL, parents TEXT NOT NULL, licence TEXT NOT NULL, consent TEXT NOT NULL,
                parameters TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, created REAL NOT NULL,
                UNIQUE (taste, digest)
            )
            """,
            "CREATE INDEX images_by_taste ON images (taste, row)",
            """
            CREATE TABLE embeddings (
                digest TEXT NOT NULL, embedder TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (digest, embedder)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE labels (
                taste TEXT NOT NULL REFERENCES tastes (id), sequence INTEGER NOT NULL, digest TEXT NOT NULL,
                grade INTEGER NOT NULL CHECK (grade BETWEEN 0 AND 5), labeller TEXT NOT NULL, reason INTEGER NOT NULL,
                created REAL NOT NULL, undoes INTEGER, chain TEXT NOT NULL, PRIMARY KEY (taste, sequence)
            ) WITHOUT ROWID
            """,
            "CREATE UNIQUE INDEX labels_undone_once ON labels (taste, undoes) WHERE undoes IS NOT NULL",
            "CREATE INDEX labels_by_image ON labels (taste, digest, sequence)",
            """
            CREATE VIEW labels_standing AS
            SELECT * FROM labels AS l WHERE l.undoes IS NULL
            AND NOT EXISTS (SELECT 1 FROM labels AS u WHERE u.taste = l.taste AND u.undoes = l.sequence)
            """,
            """
            CREATE VIEW labels_in_force AS
            SELECT taste, digest, grade, labeller, reason, created, undoes, chain, MAX(sequence) AS sequence
            FROM labels_standing GROUP BY taste, digest
            """,
            """
            CREATE TABLE comparisons (
                taste TEXT NOT NULL REFERENCES tastes (id), sequence INTEGER NOT NULL, winner TEXT NOT NULL,
                loser TEXT NOT NULL, tie INTEGER NOT NULL, labeller TEXT NOT NULL, created REAL NOT NULL,
                PRIMARY KEY (taste, sequence)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE rater_versions (
                taste TEXT NOT NULL REFERENCES tastes (id), number INTEGER NOT NULL, created REAL NOT NULL,
                label_count INTEGER NOT NULL, head TEXT NOT NULL, embedder TEXT NOT NULL, metrics TEXT NOT NULL,
                candidates TEXT NOT NULL, alarms TEXT NOT NULL, artifact TEXT NOT NULL, label_digest TEXT NOT NULL,
                PRIMARY KEY (taste, number)
            ) WITHOUT ROWID
            """,
            *(_APPEND_ONLY.format(table=t, verb=v) for t in ("labels", "comparisons") for v in ("UPDATE", "DELETE")),
        ),
    ),
)
