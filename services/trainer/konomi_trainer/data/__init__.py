"""What a fit reads.

The `manifest` of images and captions, the `dataset` in `buckets`, its `cache`, and regularisation images by
`retrieval` with a `dual_encoder`.
"""
