"""The starter: the bundled tiny models, the recipe that trained them and the simulated person."""
