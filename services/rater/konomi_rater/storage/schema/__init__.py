"""What the rater's database holds.

`migrations` made every rater.sqlite there is; `tables` is their newest form, which PostgreSQL begins with, and
`postgresql` what stands beside the tables there. Whoever adds a migration changes all three; a test compares them.
"""

from konomi_chassis.storage.schema import Schema
from konomi_rater.storage.schema.migrations import MIGRATIONS as MIGRATIONS
from konomi_rater.storage.schema.postgresql import STATEMENTS
from konomi_rater.storage.schema.tables import TABLES

SCHEMA = Schema("rater", MIGRATIONS, TABLES, STATEMENTS)
