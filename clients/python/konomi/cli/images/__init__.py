"""The commands about images.

Make them known (`import_images`), grade them as the owner would (`score`), look for some (`explore`), draw
some to look at (`draw`), say where one (`explain`, `sources`), write them as a dataset (`export`).
"""
