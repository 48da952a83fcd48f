"""What must survive a power cut.

Content-addressed `artifacts` over `blobs` with their servicer, the SQLite `database`, `idempotency` by request id,
`snapshots` as JSON lines, and the `failpoints` that prove it.
"""
