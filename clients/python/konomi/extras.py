"""The extras of the distribution: what each needs, and the pip line that brings what is missing."""

from importlib.util import find_spec

from konomi.errors import FailedPrecondition

CHASSIS = ("grpc_health", "grpc_reflection", "sqlalchemy", "pysqlite3", "fsspec", "structlog", "PIL", "numpy")
EXTRAS = {
    "rater": (*CHASSIS, "torch", "open_clip", "sklearn", "faiss"),
    "generator": (*CHASSIS, "torch", "diffusers", "transformers", "peft"),
    "trainer": (*CHASSIS, "torch", "diffusers", "transformers", "peft"),
    "overnight": ("dbos", "apprise"),
    "web": ("starlette", "uvicorn", "connectrpc", "PIL"),
}
"""Extra to the modules that show it is installed."""


def missing(extra: str) -> list[str]:
    """Returns the modules of an extra that cannot be found; nothing is imported to know it."""
    return [module for module in EXTRAS[extra] if find_spec(module) is None]


def pip_line(*extras: str) -> str:
    """Returns the line that installs extras."""
    return f"pip install 'konomi[{','.join(extras)}]'"


def require(*extras: str) -> None:
    """Returns when all extras are installed.

    Raises:
        FailedPrecondition: one is not; the message is the pip line that brings it.
    """
    absent = [extra for extra in extras if missing(extra)]
    if absent:
        modules = ", ".join(sorted({module for extra in absent for module in missing(extra)}))
        raise FailedPrecondition(f"not installed: {modules}; run: {pip_line(*absent)}", reason="MISSING_EXTRA")
