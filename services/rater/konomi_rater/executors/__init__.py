"""Who embeds the images that join a taste, other than the service's own process.

`opening` connects what the table [scale] names: `local`, the queue of this process, is the default and loads nothing
more of this room. `ray_executor` spreads a request over actors on a Ray cluster (`konomi_chassis.cluster`); what runs
in an actor is the `worker`; what goes back and forth, digests and vectors but never pixels, is in `batches`.
"""
