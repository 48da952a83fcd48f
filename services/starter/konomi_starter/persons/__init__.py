"""Simulated owners.

`simulated_person` grades by a hidden `utility` that konomi never sees.
"""
