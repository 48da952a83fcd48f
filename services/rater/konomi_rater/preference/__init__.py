"""The taste model, pure.

`fitting` assembles `features` and evidence (of many labels by `large_fit`), `head` is the ordinal Gaussian process
with its members, which learns from grades (`ordinal`) and pairs (`comparisons`) alike, `calibration` and `metrics` say
what it is worth, `promotion` whether it may score.
"""
