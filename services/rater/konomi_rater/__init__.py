"""The konomi rater."""
