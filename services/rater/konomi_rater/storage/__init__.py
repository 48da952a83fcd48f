"""What the rater keeps.

Append-only `labels` and `comparisons`, `image_records`, `embeddings`, `consents`, `audits`, the `panel` nobody fits
on, the `favourites` nobody learns from, and `files` of heads and vectors. `schema` describes the tables for SQLite and
PostgreSQL. `in_force` is what the log adds up to, kept as it grows; `columns` is how a library is held in memory;
`collected` says whose pixels may go, and whose went.
"""
