"""Chosen images to an adapter, and the lineage of units.

`servicer` is the wire, `jobs` runs what was asked, `methods` says what is learned, `training` is the one loop, `data`
what it reads, `export`, `merging` and `storage` what comes of it.
"""
