"""Self-convergence: expert iteration on all images so far, every fit from the base model (Ferbach et al. 2407.09499).

p_T is proportional to p_0 exp(T r), so the number of units is the strength; selecting the share q of a pool costs at
most ln(1/q) nats. The pool only grows (Gerstgrasser et al. 2404.01413) and is scored anew for every unit.
"""

import math

from konomi.i18n.catalogue import N_
from konomi.night.draws import Draw, Turn, image_seed, shuffled
from konomi.night.guards import PRESSURE_MARGIN
from konomi.night.settings import NightSettings
from konomi.night.systems.base import System, avoids_as_asked


def pool_size(settings: NightSettings) -> int:
    """Returns how many images a unit adds to the pool."""
    return settings.images


def draws(turn: Turn) -> list[Draw]:
    """Returns what a unit adds to the pool: every prompt about equally often, fresh seeds."""
    order = shuffled(turn.prompts, f"{turn.seed}/unit-{turn.unit}")
    count = pool_size(turn.settings)
    served = 0 if turn.served_is_base else round(count * turn.settings.served_share)
    return [
        Draw(
            order[i % len(order)],
            image_seed(turn.seed, f"unit-{turn.unit}", i),
            "served" if i < served else "base",
        )
        for i in range(count)
    ]


def selection(turn: Turn) -> dict[str, object]:
    """Returns what is asked of SelectImages: the pressure left is spread evenly over the next few units.

    Over all units of a long night it would be too thin to move any: every choice is made anew from the whole pool.
    """
    settings, tails = turn.settings, 2 if turn.settings.contrast_beta else 1  # what is turned away from spends as much
    left = max(0.0, (1 - tails * (1 - PRESSURE_MARGIN)) * turn.budget_nats - turn.spent_nats)
    ahead = min(settings.pressure_units, settings.units - turn.position + 1)
    share = max(settings.kept_share, math.exp(-left / ahead / tails))
    room = math.floor((1 - settings.base_share) * turn.pool)  # the rest may be all there is of the base model's own
    least = min(settings.select_minimum, max(1, room))
    count = min(settings.select_maximum, max(least, math.ceil(share * turn.pool)))
    return {
        "policy": "converge",
        "count": min(count, max(1, turn.pool)),
        "fill_to": settings.select_minimum,
        "base_share": settings.base_share,
        "kappa": settings.kappa,
        "quota": settings.quota,
        "prompt_quota": settings.prompt_quota,
        "duplicate_cosine": settings.duplicate_cosine,
        "typicality_percentile": settings.typicality_percentile,
        **({"avoid": True} if settings.contrast_beta else {}),
    }


SYSTEM = System(
    "converge",
    N_("Converge"),
    N_("learn from the best of the last unit, again and again"),
    draws,
    pool_size,
    selection,
    drafted=True,
    avoids=avoids_as_asked,
)
