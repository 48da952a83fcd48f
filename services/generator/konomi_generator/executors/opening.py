"""From the settings to who makes images, or the words that say why nobody can."""

import os
from importlib.util import find_spec

from konomi.errors import FailedPrecondition
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.settings import StoreSettings
from konomi_generator.generator import Executor, Generator
from konomi_generator.settings import GeneratorSettings


def open_executor(settings: ScaleSettings, generator: Generator, own: GeneratorSettings) -> Executor:
    """Returns who makes images: the generator of this process, or actors that do the same.

    Args:
        settings: who it is to be, and where.
        generator: of this process.
        own: its settings, which actors get too.

    Raises:
        FailedPrecondition: Ray is not installed, or konomi's back end is another program; there is no cluster, anybody
            could use it, or its machines have no store in common.
    """
    if settings.executor == "local":
        return generator
    if own.backend != "diffusers":
        raise FailedPrecondition(
            f'[scale] executor is "ray", and [generator] backend is "{own.backend}": the other program already says '
            'where it makes images. Set executor = "local".',
            reason="EXECUTOR",
        )
    if find_spec("ray") is None:
        raise FailedPrecondition(
            "[scale] executor is \"ray\", and Ray is not installed; run: pip install 'konomi[ray]'",
            reason="MISSING_EXTRA",
        )
    from konomi_generator.executors.ray_executor import RayExecutor

    return RayExecutor(generator, settings, own, StoreSettings(home=own.home), os.environ)
