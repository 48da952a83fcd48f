"""Which images to ask about, and which to keep; pure.

`acquisition` and `slates` choose what is asked, `selection` and `propagation` what is kept, `avoidance` what is turned
away from; `conformal` and `certificate` say what can be promised of it.
"""
