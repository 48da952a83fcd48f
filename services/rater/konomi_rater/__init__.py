"""Learns one person's taste from a few grades and scores images with it.

`servicer` is the wire, `usecases` what is done, `storage` what is kept; `embedding`, `preference`, `selection` and
`measures` are the mathematics, `sentences` what the rater says in words. `replica` is a rater that only reads.
`examination` reads all that is kept, to say what is damaged. `__main__` joins the parts.
"""
