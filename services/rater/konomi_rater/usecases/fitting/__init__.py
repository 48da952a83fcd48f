"""What is fitted.

`versions` are the rater versions of a taste, `populations` what other people like, which a version may stand on.
"""
