"""Runs a night.

`runner` holds one night in this process, `preparation` turns a wish into a request, `workflow` makes the steps
durable, `loop` says which step follows, `steps` does them, `drafting` those of drafts, `progress` shows how far it is,
`rebuild` makes a damaged record again from what the steps left.
"""
