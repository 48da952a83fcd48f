"""Several adapters into one.

`closed_form` for concepts, `low_rank` to make it small, `concepts` the use case.
"""
