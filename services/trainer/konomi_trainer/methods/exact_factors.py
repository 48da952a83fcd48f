"""LoHa and LoKr as products of two matrices, exactly and without a singular value decomposition.

LoHa: row i of (A1 B1) * (A2 B2) is a sum over pairs (j, k) of ranks, (A1[:, j] A2[:, k]) (B1[j] B2[k]): the row-wise
Khatri-Rao product of the left factors times the column-wise one of the right (Khatri and Rao 1968), of rank r².
LoKr: C ⊗ (A B) = (C ⊗ A) (I ⊗ B) = (I ⊗ A) (C ⊗ B), by the mixed product of Kronecker products (Van Loan 2000).
Every number of a factor is one number or one product of two, so nothing is rounded but these.
"""

from collections.abc import Callable, Mapping

import torch

from konomi_trainer.data.cache import Tensors

Factors = tuple[torch.Tensor, torch.Tensor]
"""(O, R) and (R, I), whose product is the change of an (O, I) weight."""


def hadamard(tensors: Tensors) -> Factors:
    """Returns the factors of a LoHa, of rank r² or, where that is smaller, of a side of the weight.

    Args:
        tensors: "hada_w1_a" (O, r), "hada_w1_b" (r, I) and the same of w2, float32.
    """
    first, second = ((tensors[f"hada_w{n}_a"], tensors[f"hada_w{n}_b"]) for n in (1, 2))
    out, rank, into = first[0].shape[0], first[0].shape[1] * second[0].shape[1], first[1].shape[1]
    if rank >= min(out, into):
        return _whole((first[0] @ first[1]) * (second[0] @ second[1]))
    up = (first[0][:, :, None] * second[0][:, None, :]).reshape(out, rank)
    down = (first[1][:, None, :] * second[1][None, :, :]).reshape(rank, into)
    return up, down


def kronecker(tensors: Tensors) -> Factors:
    """Returns the factors of a LoKr.

    Args:
        tensors: "lokr_w1" (a, c) and "lokr_w2" (b, d), each whole or as "…_a" and "…_b", float32; O = a b and I = c d.
    """
    left = tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
    pair = _whole(tensors["lokr_w2"]) if "lokr_w2" in tensors else (tensors["lokr_w2_a"], tensors["lokr_w2_b"])
    rows, columns = left.shape
    if columns <= rows:
        return _kron(left, pair[0]), _kron(_identity(columns, left), pair[1])
    return _kron(_identity(rows, left), pair[0]), _kron(left, pair[1])


def of_modules(own: Mapping[str, torch.Tensor]) -> dict[str, Factors]:
    """Returns module → factors of a LoHa's or LoKr's own weights, float32.

    Args:
        own: part of the pipeline, dot, module, dot and peft's name → weight.
    """
    modules: dict[str, Tensors] = {}
    for name, tensor in own.items():
        module, _, role = name.rpartition(".")
        modules.setdefault(module, {})[role] = tensor.float()
    return {module: _maker(tensors)(tensors) for module, tensors in sorted(modules.items())}


def _maker(tensors: Tensors) -> Callable[[Tensors], Factors]:
    return hadamard if "hada_w1_a" in tensors else kronecker


def _whole(delta: torch.Tensor) -> Factors:
    """Returns a matrix and the identity of its smaller side."""
    if delta.shape[1] <= delta.shape[0]:
        return delta, _identity(delta.shape[1], delta)
    return _identity(delta.shape[0], delta), delta


def _identity(size: int, like: torch.Tensor) -> torch.Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)


def _kron(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (left[:, None, :, None] * right[None, :, None, :]).reshape(
        left.shape[0] * right.shape[0], left.shape[1] * right.shape[1]
    )
