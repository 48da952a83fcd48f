"""Who makes the images of a request, other than the service's own process.

`settings` says which and `opening` connects it: `local`, the use case in this process, is the default and loads nothing
more of this room. `ray_executor` spreads a request over actors on a Ray cluster and is the only file that imports Ray;
what runs in an actor is the `worker`; what goes back and forth, digests and never pixels, is in `batches`; `exposure`
refuses a cluster that anybody on the network could use.
"""
