"""Pictures brought in through the page.

`endpoints` takes their files one by one, `staging` keeps them in a private folder of the home until they are read, and
`upload` reads one drop as `konomi import` reads a folder. The folder is removed when the reading ends, and what a kill
left of one at the next start.
"""
