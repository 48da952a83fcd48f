"""What makes pixels.

`diffusers` in this process, `webui` a program that speaks A1111's API.
"""
