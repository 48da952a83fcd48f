"""What the structure tests look at: the product's Python files and their syntax trees."""

import ast
import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "konomi": ROOT / "clients/python/konomi",
    **{
        f"konomi_{role}": ROOT / f"services/{role}/konomi_{role}"
        for role in ("chassis", "rater", "generator", "trainer", "starter")
    },
}


@dataclass(frozen=True)
class Source:
    """One product file.

    Attributes:
        package: its top-level package, for example "konomi_rater".
        module: its dotted name, for example "konomi_rater.preference.head".
        path: the file.
        tree: its syntax tree.
    """

    package: str
    module: str
    path: Path
    tree: ast.Module

    @property
    def shown(self) -> str:
        """Path from the root of the repository, as it is named in messages and in ARCHITECTURE.md."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def is_guide(self) -> bool:
        """Whether this is the `__init__.py` of a room."""
        return self.path.stem == "__init__"

    def imports(self) -> set[str]:
        """Returns the dotted names this file imports anywhere, `from a import b` as both "a" and "a.b"."""
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = self.module.rsplit(".", node.level)[0] if node.level else ""
                full = ".".join(part for part in (base, node.module) if part)
                names |= {full} | {f"{full}.{alias.name}" for alias in node.names}
        return names

    @property
    def lines(self) -> int:
        """Length of the file."""
        return len(self.path.read_text("utf-8").splitlines())

    def calls(self) -> list[ast.Call]:
        """Returns every call in the file."""
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]

    def imports_from(self, library: str) -> bool:
        """Tells whether this file imports `library` or anything in it."""
        return any(name == library or name.startswith(library + ".") for name in self.imports())


@functools.cache
def product() -> tuple[Source, ...]:
    """Returns every hand-written Python file of the product, in order."""
    sources = []
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            if "node_modules" in path.parts or path.stem.endswith(("_pb2", "_pb2_grpc", "_connect")):
                continue
            parts = path.relative_to(folder.parent).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            sources.append(Source(package, module, path, ast.parse(path.read_text("utf-8"), str(path))))
    return tuple(sources)


def committed_files() -> list[Path]:
    """Returns the files git tracks here; outside a checkout every file that looks like one of ours."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
        return [path for path in paths if path.is_file() or path.is_symlink()]
    return [source.path for source in product()]
