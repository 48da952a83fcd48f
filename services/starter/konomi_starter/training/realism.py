"""Realism: how many samples lie farther from every rendered portrait than held-out renders do."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def save_reference(renders: np.ndarray, held_out: np.ndarray, path: Path) -> None:
    """Writes reference embeddings with their threshold, the 95th percentile of held-out renders.

    Args:
        renders: (N, D) float32 unit vectors of rendered portraits.
        held_out: (M, D) float32 unit vectors of other renders.
        path: the safetensors file to write.
    """
    threshold = np.quantile(1 - (held_out @ renders.T).max(1), 0.95)
    save_file({"renders": renders.astype(np.float16), "threshold": np.array([threshold], np.float32)}, path)


def broken_share(embeddings: np.ndarray, path: Path) -> float:
    """Returns the share 0..1 of (N, D) unit vectors beyond the threshold; 0.05 is what true renders score."""
    reference = load_file(path)
    distance = 1 - (embeddings @ reference["renders"].astype(np.float32).T).max(1)
    return float((distance > reference["threshold"][0]).mean())
