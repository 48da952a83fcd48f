"""Self-propagation 自己増殖.

From one image to two to four. `policy` is the pure part, `growing_set` keeps the set, `preparation` finds the images
it grows from, `steps` runs a turn.
"""

from konomi.i18n.catalogue import N_
from konomi.night.systems.base import System
from konomi.night.systems.propagate import policy, preparation, steps

SYSTEM = System(
    "propagate",
    N_("Propagate"),
    N_("grow a training set from a handful of images"),
    policy.draws,
    policy.pool_size,
    policy.selection,
    settings=policy.PropagateSettings,
    fit_steps="propagate_steps",
    rater_chooses=False,
    run_unit=steps.grow,
    prepare=preparation.prepare,
    patient=True,
    spared=("diversity", "coverage", "surely_better"),
    planned=policy.planned,
)
