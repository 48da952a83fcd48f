"""How the bundled models are re-made.

`recipe` names the stages, one file each; `evaluation` and `realism` judge them.
"""
