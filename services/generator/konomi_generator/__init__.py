"""Prompts, seeds and a model to images.

`servicer` takes the wire apart, `generator` is the use case, `job` one request on the device, `sampling` what a back
end is asked; `backends` make the pixels, `model_import` takes checkpoints in.
"""
