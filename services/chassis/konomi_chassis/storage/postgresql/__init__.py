"""PostgreSQL in the place of a home's SQLite files.

`engine` opens a role's schema of a database for this process alone; `server` says which servers keep what they
acknowledge, and which are refused. `transfer` copies rows between both engines and compares them, `moving` moves a
home's.
"""
