"""The morning after.

`facts` reads what the report says from the records of the nights (`truth` what a demo knows beside it), `sections` and
`curves` put it in words, `page` places it by the `templates`, `render` writes the file. `charts` and `thumbnails` make
its pictures, `status` is the same as JSON, `notification` tells the owner that it is there.
"""
