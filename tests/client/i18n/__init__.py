"""The catalogue of words: its front, its completeness, and a language made up to see what is not in it."""
