"""Bootstrap members of a head: the same kernel on resampled labels, for a doubt the posterior does not see.

Efron's bootstrap as weights: a label drawn m times counts with its noise divided by m, one never drawn not at all.
"""

from dataclasses import replace

import numpy as np

from konomi_rater.preference import Head, Sites, assemble

MEMBERS = 5
"""4 to 5 members suffice (Coste et al. 2023)."""
LEFT_OUT = 1e6
"""Factor on the noise of a label a member did not draw."""


def draw(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws how often each of n labels is in each member: (n, MEMBERS) uint8."""
    picks = rng.integers(0, count, (MEMBERS, count))
    return np.stack([np.bincount(pick, minlength=count) for pick in picks], axis=1).clip(0, 255).astype(np.uint8)


def with_members(head: Head, inputs: np.ndarray, drawn: np.ndarray) -> Head:
    """Returns the head with its bootstrap members.

    Args:
        head: conditioned on all labels.
        inputs: (n, P) features of the labelled images.
        drawn: (n, B) how often each label is in each member; (0, 0) for none.
    """
    if not drawn.size:
        return head
    weights = []
    for times in drawn.T.astype(np.float64):
        noise = head.sites.noise * np.where(times > 0, 1.0 / times.clip(1.0), LEFT_OUT)
        known = Sites(head.sites.targets, noise)
        weights.append(
            assemble(head.kind, head.features, inputs, head.scale, head.process.kernel, known).process.weights
        )
    return replace(head, process=replace(head.process, members=np.stack(weights, axis=1)), drawn=drawn)
