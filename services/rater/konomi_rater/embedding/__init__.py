"""Images to unit vectors.

`registry` of embedders by `names`, `open_clip`, `timm` and `packaged` ones, the `tower` that runs them, `batching`
fairly over the `requests` in flight.
"""
