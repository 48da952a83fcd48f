"""The commands about images.

Make them known (`import_images`), grade them as the owner would (`score`), find far ones (`explore`), say where one
comes from (`explain`, `sources`), write them as a dataset (`export`).
"""
