"""Multi-concept customisation.

Teach words from a few images each, then converge within them. `policy` is the pure part, `preparation` finds the
images and words, `steps` runs a unit.
"""

from konomi.i18n.catalogue import N_
from konomi.night.systems import converge
from konomi.night.systems.base import System
from konomi.night.systems.concepts import policy, preparation, steps

SYSTEM = System(
    "concepts",
    N_("Concepts"),
    N_("teach new words and combine them"),
    policy.draws,
    converge.pool_size,
    policy.selection,
    settings=policy.ConceptsSettings,
    fit_steps="concept_steps",
    run_unit=steps.teach,
    prepare=preparation.prepare,
    spared=("diversity", "coverage", "surely_better"),
    planned=policy.planned,
)
