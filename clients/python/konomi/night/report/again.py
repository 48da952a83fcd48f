"""The command that does a night again: every option of it, and before it the settings that have none."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from konomi.files import write_atomically
from konomi.i18n.catalogue import text
from konomi.night.guards import GuardSettings
from konomi.night.records.request import NightRequest
from konomi.night.settings import NightSettings
from konomi.night.systems.registry import SYSTEMS, night_settings
from konomi.settings import KonomiSettings

OPTIONS: Mapping[str, str] = {
    "units": "--units",
    "images": "--images",
    "budget_hours": "--hours",
    "budget_images": "--budget-images",
    "budget_gpu_hours": "--gpu-hours",
    "budget_disk_gib": "--disk",
    "contrast_beta": "--contrast",
    "seed_images": "--seed-image",
    "concepts": "--concept",
    "concept_model": "--concept-model",
    "regularisation": "--regularisation",
}
"""Setting of a night to its option of `konomi night start`; one that is 0 or empty is not said."""


@dataclass(frozen=True)
class Again:
    """How to do a night again.

    Attributes:
        line: the command.
        prompts: prompts, one a line, for the file it names; empty where it names none.
        file: name of that file, which lies beside the report.
    """

    line: str
    prompts: Sequence[str]
    file: str

    def write(self, folder: Path) -> None:
        """Writes the prompts it names beside the report."""
        if self.prompts:
            write_atomically(folder / self.file, "".join(f"{prompt}\n" for prompt in self.prompts).encode())

    def told(self) -> list[str]:
        """Returns the command, then in sentences what it rests on, in the language in use."""
        sentences = [self.line]
        if self.prompts:
            sentences.append(
                text("Run it in the folder of this report: {file} there holds the night's prompts.", file=self.file)
            )
        sentences.append(
            text(
                "On the same machine it makes the same images, as long as the grades and images of the taste, and what "
                "is in use when it begins, are what they were."
            )
        )
        return sentences


def again(request: NightRequest) -> Again:
    """Returns how to do a night again, by what it was asked for."""
    names = (part.partition(":")[0] for part in request.system.split("+"))
    prepared = any(SYSTEMS[name].prepare is not None for name in names if name in SYSTEMS)  # it made its own prompts
    said = [name for name in OPTIONS if name != "units" or ":" not in request.system]
    words = ["konomi", "night", "start", request.system, "--taste", request.taste.removeprefix("tastes/")]
    for name in said:
        for value in _values(request.settings.get(name)):
            words += [OPTIONS[name], value]
    words += ["--seed", str(request.seed)]
    file = f"{request.id}.prompts.txt"
    lines = [] if prepared or not all(_is_line(prompt) for prompt in request.prompts) else list(request.prompts)
    words += ["--prompts", file] if lines else []
    own = frozenset(
        name for system in SYSTEMS.values() if system.prepare is None for name in system.settings.own_names()
    )
    unsaid = (NightSettings.own_names() | own) - set(OPTIONS)
    before = assignments(night_settings(), request.settings, unsaid)
    before += assignments(GuardSettings, request.guards, frozenset(GuardSettings.model_fields))
    return Again(" ".join([*before, shlex.join(words)]), lines, file)


def assignments(kind: type[KonomiSettings], settings: Mapping[str, object], names: frozenset[str]) -> list[str]:
    """Returns the environment variables of those settings that are not their default.

    Args:
        kind: class of the settings.
        settings: value by name, as JSON has it.
        names: which of them; `home` is never one.
    """
    prefix, variables = kind.model_config.get("env_prefix", ""), []
    for name in sorted(names & settings.keys() & (kind.model_fields.keys() - {"home"})):
        value, default = settings[name], kind.model_fields[name].get_default(call_default_factory=True)
        if value != (list(default) if isinstance(default, tuple) else default):
            words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            variables.append(f"{prefix}{name.upper()}={shlex.quote(words)}")
    return variables


def _values(value: object) -> list[str]:
    """Returns a setting as words of the command line."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [f"{each:.12g}" if isinstance(each, int | float) else str(each) for each in values if each]


def _is_line(prompt: str) -> bool:
    return bool(prompt) and prompt == prompt.strip() and len(prompt.splitlines()) == 1
