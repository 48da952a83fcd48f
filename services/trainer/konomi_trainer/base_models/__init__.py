"""The frozen model a fit starts from.

The `catalogue`, its `pipeline`, how it reads `captions`, and the `checkpoint_layout` other programs use.
"""
