"""What the rater keeps.

Append-only `labels` and `comparisons`, `image_records`, `embeddings`, `consents`, `audits`, the `panel` nobody fits
on, and files of heads and vectors. `schema` lists the tables.
"""
