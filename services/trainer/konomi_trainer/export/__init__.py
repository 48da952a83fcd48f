"""Units for other programs.

`exporter` chooses, `kohya` and `custom_diffusion` are the formats, `model_card` the words.
"""
