"""The taste model, pure.

`fitting` assembles `features` and evidence, `head` is the ordinal Gaussian process with its members, `calibration`
and `metrics` say what it is worth, `promotion` whether it may score.
"""
