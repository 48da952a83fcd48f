"""What makes pixels.

`diffusers` in this process, `webui` a program that speaks A1111's API; `image_prompts` lets the first look at images.
"""
