"""A rater that only reads, beside the one that writes: `rpcs` says which calls it serves, `following` how it keeps up.

Any number of them answer from one database and one store; what they refuse, and with which words, stands here too.
"""
