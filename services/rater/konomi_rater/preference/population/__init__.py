"""What other people like, as a prior of one person's taste.

`crowd` learns a linear score from many people's ratings, `file` keeps it with where it comes from and no rating at all,
`benefit` asks the owner's own held-out labels whether it helps, and drops it where it does not.
"""
