"""Families of base models: what one kind of model is and does that another does not, and nothing else in konomi asks.

`family` says what a family answers (`Family`) and what the noise of one is (`NoisePath`); `table` holds them all. One
file a family: in `unet` those with a UNet that predict noise over a thousand steps, in `flow` the transformers that
follow a flow. `condition` is what any network is told besides latents and time, `latent_scale` an autoencoder's numbers
as a network takes them, `autoencoder` still images through any autoencoder, `packing` latents as tokens, `guidance` how
two answers become one, `layer_names` what adapter files call layers.
"""
