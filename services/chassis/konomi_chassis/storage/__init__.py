"""What must survive a power cut.

Content-addressed `artifacts` over `blobs` with their servicer, or over the room `buckets`; the SQLite `database`,
whose pages carry checksums and whose log is checked before it is used (`sqlite`); `idempotency` by request id,
`snapshots` as JSON lines, and the `failpoints` that prove it. `postgresql` in the place of SQLite: `schema`
describes tables for both, `dialects` is what they are told in different words. `reach` asks what lies elsewhere.
"""
