"""The services as a night sees them.

Plain values in, plain values out. `services` calls the rpcs, `drawing` those that draw; `messages` reads the replies,
`manifests` builds what a fit is trained on, `training` follows a run, `measures` compares units, `concepts` brings
taught images.
"""
