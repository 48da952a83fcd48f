"""Tests of the report of a night: its page, its charts, its message."""
