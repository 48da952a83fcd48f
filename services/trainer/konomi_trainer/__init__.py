"""The konomi trainer."""
