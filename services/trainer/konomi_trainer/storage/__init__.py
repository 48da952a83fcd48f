"""What the trainer keeps.

`runs`, `models` with the current one, and `snapshots` of both. `schema` lists the tables.
"""
