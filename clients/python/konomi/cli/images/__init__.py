"""The commands about images.

Make them known (`import_images`), grade them as the owner would (`score`), take the best (`pick`), look for
some (`explore`), draw some to look at (`draw`), say where one comes from (`explain`, `sources`), write them as a
dataset (`export`), all that only looks, for assistants (`mcp`), and the pictures of an Immich server (`immich`).
"""
