"""`python -m konomi_trainer.migration --home HOME [--back]`: the trainer's rows from SQLite to PostgreSQL, or back."""

import sys

from konomi_chassis.storage.postgresql.moving import main
from konomi_trainer.storage.schema import SCHEMA

if __name__ == "__main__":
    sys.exit(main(SCHEMA, sys.argv[1:]))
