"""The konomi chassis."""
