"""What is measured of a taste's images.

`measurement` holds the figures of one set against another, `image_map` the plane on which all of them are laid out.
"""
