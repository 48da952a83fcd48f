"""`konomi doctor`.

What is missing or unsafe here, and the line that mends each. Start at `command`; `checks` looks at the machine and
the home, `exposure` at what others could reach, `integrity` at every byte the home holds (`--deep`), `elsewhere` at
database and bucket; `finding` is one line of the answer.
"""
