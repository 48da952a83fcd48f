"""The one training `loop`.

`optimizers`, `checkpoints` it resumes from, `ranks` it may be spread over.
"""
