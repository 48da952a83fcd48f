"""Untrusted image bytes to pixels.

The `decoder` pool, the parent's side of a child (`worker_process`) and the limited child itself (`worker`), the only
place Pillow runs.
"""
