"""Artifacts in a bucket instead of a folder of this machine.

`opening` turns the URL of the settings into a `bucket`, which is what the artifact store speaks to. Behind it are the
objects: of Amazon S3 and whatever speaks its language in `s3_objects`, with its refusals in words in `s3_refusals`; of
any other fsspec file system in `other_objects`. Beside it the `node_cache`, so that a node fetches a thing once.
"""
