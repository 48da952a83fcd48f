"""The overnight loop.

`engine` runs it, step by step, by what a way of `systems` says; `gateway` asks the services, `records` keeps what was
asked and done, `guards` decides promote, keep or halt, `verdict` asks the owner in the morning, `report` writes the
morning page. `settings`, `alarms`, `draws`, `drafts`, `metrics` and `budgets` are what all of them share. Start
reading at `engine/loop`.
"""
