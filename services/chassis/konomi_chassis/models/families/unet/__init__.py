"""The families of Stable Diffusion 1.x, 2.x and XL.

`sd1`, `sd2` and `sdxl` stand over `stable_diffusion`, what the three share, with `conditioning` for what their UNet is
given. `discrete_path` is the noise of models trained on a thousand steps, `original_names` what checkpoints call the
weights of Stable Diffusion.
"""
