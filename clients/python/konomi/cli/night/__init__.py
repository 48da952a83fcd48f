"""`konomi night`.

Plan, start, watch, stop and judge the overnight loop. Start at `run`; `plan` holds the options a night has,
`schedule` begins one at an hour, `verdict` asks the owner blind pairs in the morning.
"""
