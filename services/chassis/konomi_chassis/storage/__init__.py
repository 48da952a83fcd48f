"""What must survive a power cut.

Content-addressed `artifacts` over `blobs` with their servicer, or over the room `buckets`; the SQLite `database` with
checksums on its pages (`page_checksums`) and its `write_ahead_log` checked before it is used; `idempotency` by request
id, `snapshots` as JSON lines, and the `failpoints` that prove it. `postgresql` in the place of SQLite: `schema`
describes tables for both, `dialects` is what they are told in different words.
"""
