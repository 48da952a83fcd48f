"""The morning after.

`facts` gathers what the report says, `render` writes the page, `charts` and `thumbnails` its pictures, `status` is
the same as JSON, `notification` tells the owner that it is there.
"""
