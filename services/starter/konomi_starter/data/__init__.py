"""Portraits with exact captions.

`renderer` draws, `captions` describes and writes the prompts.
"""
