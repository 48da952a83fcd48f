"""`konomi models import`.

`importer` checks and copies a model, `conversion_worker` is the sandboxed child that alone reads a pickle.
"""
