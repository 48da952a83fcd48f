"""Learns one person's taste from a few grades and scores images with it.

`servicer` is the wire, `usecases` what is done, `storage` what is kept; `embedding`, `preference`, `selection` and
`measures` are the mathematics, `sentences` what the rater says in words. `__main__` joins the parts.
"""
