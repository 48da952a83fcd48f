"""Base models on disk.

The `catalogue` of what is there, checked as a `diffusers_folder` and by `safetensors_check` before `loading` hands it
to diffusers; `clip_vocabulary` is the text encoder's. `concept_format` names what a Custom Diffusion file holds.
"""
