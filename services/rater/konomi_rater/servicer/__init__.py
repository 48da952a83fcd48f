"""`konomi.v1.RaterService`, one file a noun.

Messages in, use case, messages out; no arithmetic. Start at `rater`.
"""
