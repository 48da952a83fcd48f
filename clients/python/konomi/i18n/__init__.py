"""The languages a person is spoken to in.

`catalogue` chooses one and translates.
"""
