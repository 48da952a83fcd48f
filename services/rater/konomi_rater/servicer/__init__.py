"""`konomi.v1.RaterService`, one file a noun; messages in, use case, messages out, no arithmetic.

`rater` joins the parts, each of which inherits `base` alone. `messages` are those more than one part uses, `streams`
takes requests in batches, `rules` bound the fields of a request.
"""
