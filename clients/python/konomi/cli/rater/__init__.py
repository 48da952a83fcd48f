"""`konomi rater` and `konomi population`.

Fit a version and say how good it is (`fit`), certify it against the owner (`certify`), change what it sees images
with (`embedder`); what other people like, as a prior (`population`).
"""
