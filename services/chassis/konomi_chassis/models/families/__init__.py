"""Families of base models: what one kind of model is and does that another does not, and nothing else in konomi asks.

`family` says what a family answers (`Family`) and what the noise of one is (`NoisePath`); `table` holds them all. One
file a family: `sd1`, `sd2` and `sdxl` over `stable_diffusion`, what the three share, with `unet_conditioning` for what
their UNet is given. `condition` is what any network is told besides latents and time, `discrete_path` the noise of
models trained on a thousand steps, `latent_scale` an autoencoder's numbers as a network takes them, `original_names`
what checkpoints call the weights of Stable Diffusion.
"""
