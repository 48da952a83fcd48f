"""The bundled models, the recipe that made them and simulated persons.

`installation` puts them into a home; `training` re-makes them from scratch, `persons` hold a hidden utility, `data`
draws and describes portraits.
"""
