"""Signatures: the share of bits in which two differ tells the angle, the same in every process."""

import hashlib

import numpy as np
import pytest

from konomi_rater.measures.signature import BITS, signatures


def apart(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first) ^ int.from_bytes(second)).bit_count()


@pytest.mark.parametrize("cosine", [0.99, 0.95, 0.8, 0.0, -0.5])
def test_the_bits_that_differ_tell_the_angle(cosine):
    rng = np.random.default_rng(3)
    first, other = rng.standard_normal((2, 64, 256))
    other -= (other * first).sum(1, keepdims=True) / (first**2).sum(1, keepdims=True) * first
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, other)]
    second = cosine * unit[0] + np.sqrt(1 - cosine**2) * unit[1]
    shares = [apart(a, b) / BITS for a, b in zip(signatures(unit[0]), signatures(second), strict=True)]
    assert np.mean(np.cos(np.pi * np.array(shares))) == pytest.approx(cosine, abs=0.02)


def test_they_are_the_same_everywhere_and_know_no_length():
    rows = np.arange(24, dtype=np.float32).reshape(3, 8) - 11
    made = signatures(rows)
    assert made == signatures(rows * 7) and [len(one) for one in made] == [BITS // 8] * 3
    assert hashlib.sha256(b"".join(made)).hexdigest()[:16] == "9ac4695cdaff77ba"
    assert signatures(rows[:0]) == []
