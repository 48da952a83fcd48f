"""The numbered migrations that make rater.sqlite; what is append-only refuses update and delete by trigger."""

from konomi_chassis.storage.schema import Migration

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
    Migration(
        2,
        (
            "DROP VIEW labels_in_force",
            # A hidden repeat (reason 4) is evidence of noise: it is in force only where no other grade stands.
            """
            CREATE VIEW labels_in_force AS
            SELECT taste, digest, grade, labeller, reason, created, undoes, chain, sequence FROM (
                SELECT *, MAX(sequence - (reason = 4 AND grade > 0) * 4611686018427387904) FROM labels_standing
                GROUP BY taste, digest
            )
            """,
            """
            CREATE TABLE panel (
                taste TEXT NOT NULL REFERENCES tastes (id), digest TEXT NOT NULL, joined REAL NOT NULL,
                PRIMARY KEY (taste, digest)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE version_diffs (
                taste TEXT NOT NULL, number INTEGER NOT NULL, diff TEXT NOT NULL, PRIMARY KEY (taste, number),
                FOREIGN KEY (taste, number) REFERENCES rater_versions (taste, number)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE selections (
                taste TEXT NOT NULL REFERENCES tastes (id), chosen TEXT NOT NULL, version INTEGER NOT NULL,
                policy TEXT NOT NULL, kept_share REAL NOT NULL, created REAL NOT NULL,
                PRIMARY KEY (taste, chosen, version, policy)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE certificates (
                taste TEXT NOT NULL REFERENCES tastes (id), number INTEGER NOT NULL, set_digest TEXT NOT NULL,
                limits TEXT NOT NULL, seed INTEGER NOT NULL, version INTEGER NOT NULL, created REAL NOT NULL,
                PRIMARY KEY (taste, number), UNIQUE (taste, set_digest, limits)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE audit_answers (
                taste TEXT NOT NULL, certificate INTEGER NOT NULL, sequence INTEGER NOT NULL, digest TEXT NOT NULL,
                grade INTEGER NOT NULL CHECK (grade BETWEEN 1 AND 5), labeller TEXT NOT NULL, created REAL NOT NULL,
                PRIMARY KEY (taste, certificate, sequence),
                FOREIGN KEY (taste, certificate) REFERENCES certificates (taste, number)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE audits_ended (
                taste TEXT NOT NULL, certificate INTEGER NOT NULL, artifact TEXT NOT NULL, created REAL NOT NULL,
                PRIMARY KEY (taste, certificate),
                FOREIGN KEY (taste, certificate) REFERENCES certificates (taste, number)
            ) WITHOUT ROWID
            """,
            *(
                _APPEND_ONLY.format(table=t, verb=v)
                for t in ("panel", "certificates", "audit_answers", "audits_ended")
                for v in ("UPDATE", "DELETE")
            ),
        ),
    ),
    Migration(
        3,
        (
            """
            CREATE TABLE embedder_changes (
                taste TEXT PRIMARY KEY REFERENCES tastes (id), embedder TEXT NOT NULL, seed INTEGER NOT NULL,
                created REAL NOT NULL
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE images_forgotten (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT, taste TEXT NOT NULL, row INTEGER NOT NULL
            )
            """,
            # Whoever deletes an image's row, the index forgets it, and its vectors go when no taste knows it any more.
            """
            CREATE TRIGGER images_are_forgotten AFTER DELETE ON images
            BEGIN
                INSERT INTO images_forgotten (taste, row) VALUES (OLD.taste, OLD.row);
                DELETE FROM embeddings WHERE digest = OLD.digest
                AND NOT EXISTS (SELECT 1 FROM images WHERE digest = OLD.digest);
            END
            """,
        ),
    ),
    Migration(
        4,
        (
            "ALTER TABLE comparisons ADD COLUMN undoes INTEGER",
            "CREATE UNIQUE INDEX comparisons_undone_once ON comparisons (taste, undoes) WHERE undoes IS NOT NULL",
            """
            CREATE VIEW comparisons_standing AS
            SELECT * FROM comparisons AS c WHERE c.undoes IS NULL
            AND NOT EXISTS (SELECT 1 FROM comparisons AS u WHERE u.taste = c.taste AND u.undoes = c.sequence)
            """,
        ),
    ),
    Migration(
        5,
        (
            """
            CREATE TABLE blind_audits (
                taste TEXT NOT NULL REFERENCES tastes (id), number INTEGER NOT NULL, night TEXT NOT NULL,
                unit TEXT NOT NULL, against TEXT NOT NULL, labeller TEXT NOT NULL, created REAL NOT NULL,
                PRIMARY KEY (taste, number)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE blind_pairs (
                taste TEXT NOT NULL, audit INTEGER NOT NULL, place INTEGER NOT NULL, unit TEXT NOT NULL,
                against TEXT NOT NULL, choice INTEGER NOT NULL CHECK (choice BETWEEN 1 AND 3),
                PRIMARY KEY (taste, audit, place),
                FOREIGN KEY (taste, audit) REFERENCES blind_audits (taste, number)
            ) WITHOUT ROWID
            """,
            *(
                _APPEND_ONLY.format(table=t, verb=v)
                for t in ("blind_audits", "blind_pairs")
                for v in ("UPDATE", "DELETE")
            ),
        ),
    ),
    Migration(
        6,
        (
            """
            CREATE TABLE consents (
                taste TEXT NOT NULL REFERENCES tastes (id), sequence INTEGER NOT NULL, reference TEXT NOT NULL,
                giver TEXT NOT NULL, licence TEXT NOT NULL, created REAL NOT NULL, PRIMARY KEY (taste, sequence)
            ) WITHOUT ROWID
            """,
            "CREATE INDEX consents_by_reference ON consents (taste, reference, sequence)",
            """
            CREATE TABLE revoked_consents (
                taste TEXT NOT NULL REFERENCES tastes (id), reference TEXT NOT NULL, why TEXT NOT NULL,
                created REAL NOT NULL, PRIMARY KEY (taste, reference)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE revoked_images (
                taste TEXT NOT NULL REFERENCES tastes (id), digest TEXT NOT NULL, sequence INTEGER NOT NULL,
                source INTEGER NOT NULL, licence TEXT NOT NULL, consent TEXT NOT NULL, why TEXT NOT NULL,
                created REAL NOT NULL, PRIMARY KEY (taste, digest)
            ) WITHOUT ROWID
            """,
            *(
                _APPEND_ONLY.format(table=t, verb=v)
                for t in ("consents", "revoked_consents", "revoked_images")
                for v in ("UPDATE", "DELETE")
            ),
            "DROP VIEW labels_in_force",
            # The label of an image that left for good counts no more.
            """
            CREATE VIEW labels_in_force AS
            SELECT taste, digest, grade, labeller, reason, created, undoes, chain, sequence FROM (
                SELECT *, MAX(sequence - (reason = 4 AND grade > 0) * 4611686018427387904) FROM labels_standing AS s
                WHERE NOT EXISTS (SELECT 1 FROM revoked_images AS r WHERE r.taste = s.taste AND r.digest = s.digest)
                GROUP BY taste, digest
            )
            """,
        ),
    ),
    Migration(
        7,
        (
            """
            CREATE TABLE slate_maps (
                taste TEXT NOT NULL REFERENCES tastes (id), space TEXT NOT NULL, regions INTEGER NOT NULL,
                seed INTEGER NOT NULL, base_count INTEGER NOT NULL, after INTEGER NOT NULL, created REAL NOT NULL,
                PRIMARY KEY (taste, space)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE slate_bets (
                taste TEXT NOT NULL REFERENCES tastes (id), space TEXT NOT NULL, region INTEGER NOT NULL,
                predicted REAL NOT NULL, median REAL NOT NULL, created REAL NOT NULL,
                PRIMARY KEY (taste, space, region)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE slate_images (
                taste TEXT NOT NULL REFERENCES tastes (id), space TEXT NOT NULL, digest TEXT NOT NULL,
                region INTEGER NOT NULL, created REAL NOT NULL, PRIMARY KEY (taste, space, digest)
            ) WITHOUT ROWID
            """,
            *(
                _APPEND_ONLY.format(table=t, verb=v)
                for t in ("slate_maps", "slate_bets", "slate_images")
                for v in ("UPDATE", "DELETE")
            ),
        ),
    ),
    Migration(
        8,
        (
            # The sentences of `rater_versions.alarms` by name, with their numbers, in the same order.
            """
            CREATE TABLE version_alarms (
                taste TEXT NOT NULL, number INTEGER NOT NULL, alarms TEXT NOT NULL, PRIMARY KEY (taste, number),
                FOREIGN KEY (taste, number) REFERENCES rater_versions (taste, number)
            ) WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        9,
        (
            # What labels and images add up to, kept in the transaction that writes them (see `in_force`): no read
            # groups a log or counts a library. Triggers, so that whoever writes a row keeps them.
            """
            CREATE TABLE label_force (
                taste TEXT NOT NULL, digest TEXT NOT NULL, sequence INTEGER NOT NULL, grade INTEGER NOT NULL,
                labeller TEXT NOT NULL, reason INTEGER NOT NULL, created REAL NOT NULL, PRIMARY KEY (taste, digest)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE taste_counts (taste TEXT PRIMARY KEY, images INTEGER NOT NULL, graded INTEGER NOT NULL)
            WITHOUT ROWID
            """,
            """
            INSERT INTO label_force SELECT taste, digest, sequence, grade, labeller, reason, created
            FROM labels_in_force
            """,
            """
            INSERT INTO taste_counts SELECT t.id, (SELECT COUNT(*) FROM images AS i WHERE i.taste = t.id),
            (SELECT COUNT(*) FROM label_force AS f WHERE f.taste = t.id AND f.grade > 0) FROM tastes AS t
            """,
            "DROP VIEW labels_in_force",
            "ALTER TABLE label_force RENAME TO labels_in_force",
            "CREATE INDEX labels_in_force_by_sequence ON labels_in_force (taste, sequence)",
            # The last grade of an image that stands; of a hidden repeat (reason 4), only where no other grade does.
            # Looked up by sequence: by digest alone SQLite would rather read the whole log.
            """
            CREATE TRIGGER labels_take_force AFTER INSERT ON labels
            WHEN NOT EXISTS (SELECT 1 FROM revoked_images WHERE taste = NEW.taste AND digest = NEW.digest)
            BEGIN
                DELETE FROM labels_in_force WHERE taste = NEW.taste AND digest = NEW.digest;
                INSERT INTO labels_in_force SELECT taste, digest, sequence, grade, labeller, reason, created
                FROM labels_standing WHERE taste = NEW.taste AND sequence IN (
                    SELECT sequence FROM labels WHERE taste = NEW.taste AND digest = NEW.digest
                ) ORDER BY reason = 4 AND grade > 0, sequence DESC LIMIT 1;
            END
            """,
            """
            CREATE TRIGGER revoked_images_lose_force AFTER INSERT ON revoked_images
            BEGIN DELETE FROM labels_in_force WHERE taste = NEW.taste AND digest = NEW.digest; END
            """,
            """
            CREATE TRIGGER tastes_are_counted AFTER INSERT ON tastes
            BEGIN INSERT INTO taste_counts VALUES (NEW.id, 0, 0); END
            """,
            """
            CREATE TRIGGER tastes_lose_force AFTER DELETE ON tastes
            BEGIN
                DELETE FROM labels_in_force WHERE taste = OLD.id;
                DELETE FROM taste_counts WHERE taste = OLD.id;
            END
            """,
            *(
                f"""
                CREATE TRIGGER {table}_{verb}_is_counted AFTER {verb} ON {table}
                {condition.format(row=row)}
                BEGIN UPDATE taste_counts SET {column} = {column} {sign} 1 WHERE taste = {row}.taste; END
                """
                for table, column, condition in (
                    ("images", "images", ""),
                    ("labels_in_force", "graded", "WHEN {row}.grade > 0"),
                )
                for verb, row, sign in (("INSERT", "NEW", "+"), ("DELETE", "OLD", "-"))
            ),
            # Through the tastes, which are few: no index by digest alone is needed.
            "DROP TRIGGER images_are_forgotten",
            """
            CREATE TRIGGER images_are_forgotten AFTER DELETE ON images
            BEGIN
                INSERT INTO images_forgotten (taste, row) VALUES (OLD.taste, OLD.row);
                DELETE FROM embeddings WHERE digest = OLD.digest AND NOT EXISTS (
                    SELECT 1 FROM tastes AS t CROSS JOIN images AS i
                    WHERE i.taste = t.id AND i.digest = OLD.digest
                );
            END
            """,
            "CREATE INDEX labels_repeated ON labels (taste, digest) WHERE reason = 4",
            "CREATE INDEX images_by_consent ON images (taste, consent, source) WHERE consent > ''",
            "CREATE INDEX revoked_images_by_consent ON revoked_images (taste, consent)",
            "CREATE INDEX images_forgotten_by_taste ON images_forgotten (taste, sequence)",
            "CREATE INDEX selections_by_time ON selections (taste, created)",
        ),
    ),
    Migration(
        10,
        (
            # What the storage policy took: the log of it for ever, and which images are without pixels now.
            """
            CREATE TABLE collected_images (
                taste TEXT NOT NULL REFERENCES tastes (id), sequence INTEGER NOT NULL, digest TEXT NOT NULL,
                returned INTEGER NOT NULL CHECK (returned IN (0, 1)), bytes INTEGER NOT NULL, policy TEXT NOT NULL,
                created REAL NOT NULL, PRIMARY KEY (taste, sequence)
            ) WITHOUT ROWID
            """,
            *(_APPEND_ONLY.format(table="collected_images", verb=v) for v in ("UPDATE", "DELETE")),
            # `unembedded`: without a vector of the taste's embedder too, which was changed after the pixels went.
            """
            CREATE TABLE images_without_pixels (
                taste TEXT NOT NULL REFERENCES tastes (id), digest TEXT NOT NULL,
                unembedded INTEGER NOT NULL DEFAULT 0 CHECK (unembedded IN (0, 1)), PRIMARY KEY (taste, digest)
            ) WITHOUT ROWID
            """,
            """
            CREATE TRIGGER images_need_no_pixels AFTER DELETE ON images
            BEGIN DELETE FROM images_without_pixels WHERE taste = OLD.taste AND digest = OLD.digest; END
            """,
            # Pixels of revoked images that are still to be removed: written with the revocation, deleted when done.
            "CREATE TABLE pixels_leaving (digest TEXT PRIMARY KEY, created REAL NOT NULL) WITHOUT ROWID",
        ),
    ),
    Migration(
        11,
        # The file an image was imported from, as what was imported names it; empty where nobody said, or before this.
        ("ALTER TABLE images ADD COLUMN path TEXT NOT NULL DEFAULT ''",),
    ),
    Migration(
        12,
        # What a choice was for, as a sha256; empty where nobody said, or before this.
        ("ALTER TABLE selections ADD COLUMN purpose TEXT NOT NULL DEFAULT ''",),
    ),
    Migration(
        13,
        (
            # What populations added to a version when it was fitted: as they were then, whatever was removed since.
            """
            CREATE TABLE version_populations (
                taste TEXT NOT NULL, number INTEGER NOT NULL, uses TEXT NOT NULL, PRIMARY KEY (taste, number),
                FOREIGN KEY (taste, number) REFERENCES rater_versions (taste, number)
            ) WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        14,
        # Comparisons a version was fitted on; before this they were no labels of their own.
        ("ALTER TABLE rater_versions ADD COLUMN comparison_count INTEGER NOT NULL DEFAULT 0",),
    ),
    Migration(
        15,
        # The model that made an image elsewhere, as the image says; empty where it says none, or before this.
        ("ALTER TABLE images ADD COLUMN elsewhere_model TEXT NOT NULL DEFAULT ''",),
    ),
    Migration(
        16,
        (
            # Which images taught a population, by the digest of its file; what is revoked later can then be said.
            """
            CREATE TABLE population_images (
                population TEXT NOT NULL, image TEXT NOT NULL, ratings INTEGER NOT NULL, learnt REAL NOT NULL,
                PRIMARY KEY (population, image)
            ) WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        17,
        (
            # The embedder a taste keeps beside its own, and what a version's was beside it on the same held-out labels.
            """
            CREATE TABLE second_embedders (
                taste TEXT PRIMARY KEY REFERENCES tastes (id), embedder TEXT NOT NULL, seed INTEGER NOT NULL,
                created REAL NOT NULL
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE embedder_comparisons (
                taste TEXT NOT NULL, number INTEGER NOT NULL, comparison TEXT NOT NULL, PRIMARY KEY (taste, number),
                FOREIGN KEY (taste, number) REFERENCES rater_versions (taste, number)
            ) WITHOUT ROWID
            """,
        ),
    ),
    Migration(
        18,
        (
            # Images an owner keeps in mind; no grade, and nothing learns from them.
            """
            CREATE TABLE favourites (
                taste TEXT NOT NULL REFERENCES tastes (id), digest TEXT NOT NULL, sequence INTEGER NOT NULL,
                created REAL NOT NULL, PRIMARY KEY (taste, digest)
            ) WITHOUT ROWID
            """,
            "CREATE INDEX favourites_by_sequence ON favourites (taste, sequence)",
            """
            CREATE TRIGGER images_are_no_favourites AFTER DELETE ON images
            BEGIN DELETE FROM favourites WHERE taste = OLD.taste AND digest = OLD.digest; END
            """,
        ),
    ),
)
