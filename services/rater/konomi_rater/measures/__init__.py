"""Figures of a set of embeddings, pure.

`novelty`, `elites` over `cells`, `diversity`, `two_sample` tests, `coverage`, `overoptimisation`, the pressure a rater
has been put under, the `principal_axes` of a map, the `signature` by which near-copies are told, and the
`near_copy_order` among them.
"""
