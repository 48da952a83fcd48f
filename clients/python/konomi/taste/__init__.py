"""One owner's taste.

Images in (`importing`), grades in (`labelling`, `label_file`), scores and the best of many out (`scoring`), whose
images they are (`consents`, `provenance`), images like those it likes best (`likeness`), images looked for by words or
another (`search`), what the rater is worth in words (`rater_summary`), what its owner likes in words (`likes`), and the
whole of it in one file (`bundle`).
"""
