"""How an image was made, as evidence.

`parameters` says what is known of it and lays it out for `trees`, `origins` for the Gaussian process.
"""
