"""The page: a starlette app on loopback.

`app`, started by `server`, signs a browser in (`auth`), refuses what is not its own page (`security`), relays the
rpcs (`connect`), takes pictures in (`uploads`) and hands out images to grade (`grading_queue`), pixels (`images`,
`thumbnails`) and nights (`nights`). What the browser runs lies in `static/`.
"""
