"""Multi-concept customisation.

Teach words from a few images each, then converge within them. `policy` is the pure part, `steps` asks the services.
"""
