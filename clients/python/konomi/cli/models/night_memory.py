"""What a night takes of this machine's device on a base model, before it starts."""

from konomi.cli.console import note, say, table
from konomi.cli.storage.command import size
from konomi.client.client import connect_home
from konomi.client.refusals import told
from konomi.errors import KonomiError
from konomi.home import Home
from konomi.i18n.catalogue import text
from konomi.v1 import generator_pb2 as generator


def show_memory(memory: generator.NightMemory) -> None:
    """Prints what each service takes of the device, and whether a night fits."""
    rows = [
        (need.service, size(need.at_rest_bytes), size(need.at_peak_bytes), size(need.at_least_bytes))
        for need in memory.needs
    ]
    table(("memory of a night", "at rest", "at its peak", "at the least"), rows)
    say(_verdict(memory))


def memory_of(home: Home, base_model: str) -> generator.NightMemory | None:
    """Returns what a night takes of the device on a base model; None, which is said, where konomi does not run."""
    if not home.is_up():
        note(text("whether it fits into this machine's memory is known while konomi runs: konomi up"))
        return None
    try:
        with connect_home(home.root) as client:
            base = client.generator.inspect_model(id=base_model)
    except KonomiError as error:
        note(told(error))
        return None
    return base.memory if base.HasField("memory") else None


def _verdict(memory: generator.NightMemory) -> str:
    words = {"whole": size(memory.device_bytes), "device": memory.device}
    if memory.fit == generator.NIGHT_FIT_WHOLE:
        sentence = "a night fits: at most {peak} of the {whole} of this machine's {device} at once"
    elif memory.fit == generator.NIGHT_FIT_REDUCED:
        sentence = (
            "a night fits with fewer images at once and parts that wait: {peak} as it is set, {least} at the least, of"
            " the {whole} of this machine's {device}"
        )
    else:
        sentence = (
            "a night does not fit: it takes {least} at the least, and this machine's {device} has {whole}; choose a"
            " smaller base model"
        )
    return text(sentence, peak=size(memory.peak_bytes), least=size(memory.least_bytes), **words)
