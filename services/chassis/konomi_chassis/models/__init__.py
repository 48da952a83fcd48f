"""Base models on disk, and how they read prompts.

The `catalogue` of what is there, checked as a `diffusers_folder` or `single_file` and by `safetensors_check` before
`loading` hands it to diffusers. `families` holds what one kind of model is and does that another does not.
`noise_schedule` is what a model says of its noise, `model_settings` how it draws and learns where nobody says
otherwise, `original_tensors` the weights of a single file. `clip_vocabulary` is the text encoder's, `concept_format`
names what a Custom Diffusion file holds.
A prompt goes through `prompt_weights` (emphasis), `text_chunks` (any length) and `prompt_encoder`.
"""
