"""Files that can be made again: written complete or not at all by any thread, but not forced to disk."""

import os
import threading
from pathlib import Path


def write_quickly(path: Path, data: bytes) -> None:
    """Writes a file by a temporary one beside it and a rename; a power cut may take it, a kill never halves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    temporary.write_bytes(data)
    temporary.replace(path)
