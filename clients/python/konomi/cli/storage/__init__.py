"""`konomi storage`.

What lies on the disk and what may go. Start at `command`; `survey` walks the home and adds what the services say,
`leftovers` finds and removes what no service keeps: caches, journals, homes of demos. `migrate` moves rows between
SQLite and PostgreSQL.
"""
