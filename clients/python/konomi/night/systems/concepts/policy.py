"""Concepts: Custom Diffusion from about four images each, joint or merged, then convergence within them.

Kumari et al. 2212.04488. The first unit teaches the words. Every later one is a joint fit from the base model on the
concepts' own images and on what was chosen from images that call them: one model, so nothing has to be stacked, and
nothing is forgotten, because the concepts' images are in every fit. The choice is that of `converge`.
"""

from typing import ClassVar

from pydantic import Field

from konomi.night.draws import Draw, Turn
from konomi.night.gateway.concepts import RegularisationSettings
from konomi.night.settings import NightSettings
from konomi.night.systems import converge
from konomi.night.systems.propagate.policy import weights

SHARE = 0.5
"""Least share of the concepts' own images among what a later unit learns from, regularisation images apart."""


class ConceptsSettings(RegularisationSettings):
    """What `concepts` alone is told, and its regularisation."""

    younger: ClassVar[frozenset[str]] = frozenset()  # every night has recorded these

    concepts: tuple[str, ...] = ()
    """`concepts`: what to teach, each as NAME=CLASS:FOLDER, from about four images."""
    concept_model: str = ""
    """`concepts`: a model taught before, by id or name, in place of teaching."""
    concept_merge: bool = False
    """`concepts`: teach each alone and merge in closed form, in place of one joint fit."""
    concept_steps: int = Field(250, ge=1)
    """`concepts`: optimiser steps of a fit (Custom Diffusion's own; for a joint one twice as many may help)."""
    concept_items: str = ""
    """`concepts`: digest of the concepts' images and their words; filled in when the night begins."""
    concept_words: tuple[str, ...] = ()
    """`concepts`: the words, each as "TOKEN CLASS"; filled in when the night begins."""


def draws(turn: Turn) -> list[Draw]:
    """Returns what a unit adds to the pool: prompts that call the concepts, by the model that knows them.

    The base model makes its usual share, without the words, as regularisation images; none where real ones were given.
    """
    pool = converge.draws(turn)
    if turn.settings.of(ConceptsSettings).regularisation_items:
        return [Draw(draw.prompt, draw.seed, "served") for draw in pool]
    return pool


def selection(turn: Turn) -> dict[str, object]:
    """Returns what is asked of SelectImages."""
    return converge.selection(turn)


def planned(settings: NightSettings, units: int) -> tuple[int, int]:
    """Returns how many pool images and training steps so many units take; the first only teaches."""
    settings = settings.of(ConceptsSettings)
    taught = 0 if settings.concept_model else settings.concept_steps
    return (units - 1) * settings.images, taught + (units - 1) * settings.concept_steps


def weighed(concepts: int, chosen: int) -> tuple[float, float]:
    """Returns the weights in the loss of a concept's image and of a chosen one."""
    return weights(concepts, chosen, SHARE)
