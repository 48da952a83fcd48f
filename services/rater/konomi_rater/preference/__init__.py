"""The taste model, pure.

`fitting` reads a `training`, assembles `features` and evidence (of many labels by `large_fit`), `head` is the ordinal
Gaussian process with its members, which learns from grades (`ordinal`) and pairs (`comparisons`) alike, `calibration`
and `metrics` say what it is worth, `promotion` whether it may score. How images were made is evidence (`provenance`).
"""
