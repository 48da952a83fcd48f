"""The konomi generator."""
