"""What the trainer's database holds.

`migrations` made every trainer.sqlite there is; `tables` is their newest form, which PostgreSQL begins with. Whoever
adds a migration changes both; a test compares them.
"""

from konomi_chassis.storage.schema import Schema
from konomi_trainer.storage.schema.migrations import MIGRATIONS as MIGRATIONS
from konomi_trainer.storage.schema.tables import TABLES

SCHEMA = Schema("trainer", MIGRATIONS, TABLES)
