"""Images by diffusers.

`backend` answers a job, `pipeline` holds a model, `denoising` is the loop over `latents`, `text_conditioning` and
`condition_annealing` the prompts, `adapters` and `custom_diffusion` what units add, over `shared_network` and
`stochastic_rounding`; `memory_fallback` is what is given up when memory is short, `compilation` what makes it faster.
"""
