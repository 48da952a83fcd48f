"""What is learned, one file a method.

`base` says what a method is, `registry` lists them; `lora` and `custom_diffusion` are the two, `denoising_loss` and
`losses` what they minimise.
"""
