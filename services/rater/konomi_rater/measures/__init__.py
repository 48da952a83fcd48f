"""Figures of a set of embeddings, pure.

`novelty`, `elites` over `cells`, `diversity`, `two_sample` tests, `coverage`, and `overoptimisation`, the pressure a
rater has been put under.
"""
