"""The frozen model a fit starts from.

The `catalogue`, its `pipeline`, how it reads `captions`, `streamed_blocks` that come to a small card one by one, and
the `checkpoint_layout` other programs use.
"""
