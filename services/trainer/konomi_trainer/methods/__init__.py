"""What is learned, one file a method.

`base` says what a method is, `registry` is the one table a new one is entered into. `lora` holds four kinds of low-rank
adapters, `custom_diffusion` binds concepts to words; `denoising_loss` and `losses` are what they minimise.
"""
