"""What the rater sees images with.

`advice` on the embedder a taste has, the `change` to another, and a `second` one kept beside it to be compared;
`unembedded` makes the vectors both need.
"""
