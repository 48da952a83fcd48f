"""`konomi.v1.TrainerService`.

Messages in, job or row, messages out. Start at `trainer`; `rules` says what a request's fields may be.
"""
