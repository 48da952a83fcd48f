"""The morning after.

`facts` reads what the report says from the records of the nights (`truth` what a demo knows beside it). `summary` puts
its first screen in words, `sections` what is seen, `figures` and `curves` what is folded away, `again` the command that
does it again. `page` places it by the `templates`, `languages` puts every language into one page, `render` writes the
file. `charts` and `thumbnails` make its pictures, `status` is the same as JSON, `notification` tells the owner that it
is there. `taste_map` places a taste's images on a page of the same kind.
"""
