"""Images in and out of files.

In: `reader` finds images in folders and in `archives`, `media` tells what a file is, `png_metadata` and `xmp` read
what others wrote about it, `captions` the texts beside it. Out: a `records` line a picture, written as `kohya`
folders, `webdataset` shards or `parquet`.
"""
