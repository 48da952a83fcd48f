"""The numbered migrations that make trainer.sqlite: runs and models in one file, so both change in one transaction."""

from konomi_chassis.storage.schema import Migration

MIGRATIONS = (
    Migration(
        1,
        (
            """
            CREATE TABLE training_runs (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE,
                taste TEXT NOT NULL,
                manifest_digest TEXT NOT NULL,
                config_digest TEXT NOT NULL,
                request BLOB NOT NULL,
                configuration TEXT NOT NULL,
                state TEXT NOT NULL,
                phase TEXT NOT NULL,
                step INTEGER NOT NULL,
                total_steps INTEGER NOT NULL,
                loss REAL NOT NULL,
                cancel_requested INTEGER NOT NULL,
                model TEXT NOT NULL,
                error_code INTEGER NOT NULL,
                error_reason TEXT NOT NULL,
                error_message TEXT NOT NULL,
                create_time REAL NOT NULL,
                UNIQUE (taste, manifest_digest, config_digest)
            ) STRICT
            """,
            """
            CREATE TABLE models (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE,
                training_run TEXT NOT NULL UNIQUE REFERENCES training_runs (id),
                taste TEXT NOT NULL,
                display_name TEXT NOT NULL,
                method TEXT NOT NULL,
                base_model TEXT NOT NULL,
                base_digest TEXT NOT NULL,
                parents TEXT NOT NULL,
                adapter_digest TEXT NOT NULL,
                manifest_digest TEXT NOT NULL,
                rater_version TEXT NOT NULL,
                config_digest TEXT NOT NULL,
                configuration TEXT NOT NULL,
                seed INTEGER NOT NULL,
                metrics TEXT NOT NULL,
                night TEXT NOT NULL,
                create_time REAL NOT NULL
            ) STRICT
            """,
            """
            CREATE TABLE promotions (
                sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                taste TEXT NOT NULL,
                action TEXT NOT NULL CHECK (action IN ('promote', 'rollback')),
                model TEXT REFERENCES models (id),
                before INTEGER REFERENCES promotions (sequence),
                time REAL NOT NULL
            ) STRICT
            """,
            """
            CREATE TABLE current_models (
                taste TEXT PRIMARY KEY,
                model TEXT NOT NULL REFERENCES models (id),
                promotion INTEGER NOT NULL REFERENCES promotions (sequence)
            ) STRICT
            """,
        ),
    ),
    Migration(
        2,
        (
            """
            CREATE TABLE training_checkpoints (
                run TEXT NOT NULL REFERENCES training_runs (id),
                step INTEGER NOT NULL,
                loss REAL NOT NULL,
                validation_loss REAL,
                adapter_digest TEXT NOT NULL,
                sheet_digest TEXT NOT NULL,
                PRIMARY KEY (run, step)
            ) STRICT
            """,
        ),
    ),
    Migration(
        3,
        (
            # Adapters of checkpoints that the storage policy took; nothing of it is ever changed.
            """
            CREATE TABLE collected_checkpoints (
                run TEXT NOT NULL REFERENCES training_runs (id),
                step INTEGER NOT NULL,
                adapter_digest TEXT NOT NULL,
                bytes INTEGER NOT NULL,
                policy TEXT NOT NULL,
                created REAL NOT NULL,
                PRIMARY KEY (run, step)
            ) STRICT
            """,
        ),
    ),
)
