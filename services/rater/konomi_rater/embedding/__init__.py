"""Images to unit vectors.

`registry` of embedders by `names`, `open_clip`, `timm` and `packaged` ones, two `joined`, `early_layers`
beside the last, the `tower` that runs them, `batching` fairly over the `requests` in flight.
"""
