"""Images by diffusers.

`backend` answers a job, `pipeline` holds a model, `denoising` is the loop over `latents`, `text_conditioning` and
`condition_annealing` the prompts, `adapters` and `custom_diffusion` what units add, `memory_fallback` what is given
up when memory is short.
"""
