"""This machine.

`supervisor` starts and stops the roles, `session` gives a job its services (running ones or its own), `signals` tells
when to stop, `extras` what is installed, `terminal` makes text harmless to one, `hub` fetches one pinned file of
`hub_models`, `hub_folder` a whole diffusers folder.
"""
