"""What SQLite itself leaves to whoever distrusts its disk.

`page_checksums` has a checksum on every page of a database, `sqlite_checksum` is how SQLite sums, and a
`write_ahead_log` is read before it is believed.
"""
