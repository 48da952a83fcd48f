"""The languages a person is spoken to in.

`catalogue` chooses one and translates: `text("…")` and `plural("…", "…", count)` take English and give the language in
use. The translations are the .po files of `konomi/locale`, one a language; `make words` renews them after the English
changed, and the build compiles them, also into the JSON the page loads.
"""
