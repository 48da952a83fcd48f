"""Images by a program that speaks A1111's API.

`backend` answers a job, `client` is the HTTP.
"""
