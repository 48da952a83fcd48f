"""Images in and out of files.

In: `reader` finds images in folders and in `archives`, `media` tells what a file is, `beside` looks up what stands
beside it (`captions`, sidecars of `xmp`), `png_metadata` reads what others wrote into it (`prompts`, `exif`,
`stealth`), `spelling` knows encodings and names, `tally` keeps what was not understood. Out: a `records` line a
picture, written as `kohya` folders, `webdataset` shards or `parquet`.
"""
