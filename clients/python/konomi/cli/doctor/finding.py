"""What one check of `konomi doctor` saw, and the line that fixes it."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """What one check saw: "ok", "warn" (works, but) or "fail", and the line that fixes it."""

    name: str
    state: str
    detail: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Returns it as JSON has it."""
        return asdict(self)


def command(*words: str | Path) -> str:
    """Returns words as a line for a shell."""
    return shlex.join(str(word) for word in words)
