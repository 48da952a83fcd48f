"""Self-propagation 自己増殖.

From one image to two to four. `policy` is the pure part, `growing_set` keeps the set, `steps` asks the services.
"""
