"""`konomi models import`.

`importer` checks and copies a model, `beside` knows what stands beside one, `conversion_worker` is the sandboxed child
that alone reads a pickle.
"""
