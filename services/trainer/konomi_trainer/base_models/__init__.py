"""The frozen model a fit starts from.

The `catalogue`, its `pipeline`, and the `checkpoint_layout` other programs use.
"""
