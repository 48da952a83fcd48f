"""The house rules a machine can check: sizes, opening sentences, rooms, heavy libraries, imports that do nothing."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.contract.source_tree import PACKAGES, ROOT, Source, committed_files, product

MIN_LINES, MAX_LINES = 40, 500
MAX_FUNCTION = 40
"""Lines of a function at most, its head and docstring among them."""

MAX_NAMES = 16
MOST_LOOSE = 39
"""`dict[str, Any]` in the client, each at a border."""
ONE_FILE_PER_PACKAGE = (
    "dbos",
    "connectrpc",
    "open_clip",
    "faiss",
    "diffusers",
    "peft",
    "ray",
    "sd_parsers",
    "ribs",
    "timm",
)
OF_THE_CLIENT = {"konomi.v1", "konomi.errors", "konomi.settings"}
BANNED_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "picklescan")
BANNED_CALLS = {"torch.load", "torch.save", "torch.hub.load", "eval", "exec", "os.system"}
CONVERSION = "services/generator/konomi_generator/model_import/conversion_worker.py"
"""The sandboxed child of `konomi models import --convert`: the one file that may touch a pickle, and only so."""
RATER_CONVERSION = "services/rater/konomi_rater/embedding/conversion_worker.py"
CHILDREN = {CONVERSION: {"torch.load", "torch.save"}, RATER_CONVERSION: {"torch.load"}}
"""The sandboxed children that read a pickle, never imported, and the calls each may make."""
SDAPI = "services/generator/konomi_generator/backends/webui/client.py"
S3 = "services/chassis/konomi_chassis/storage/buckets/s3_objects.py"
"""The one server file that talks HTTP: to the one address the owner configured."""
MUST_BE_FALSE = ("allow_pickle", "trust_remote_code", "shell")
HTTP_CLIENTS = ("requests", "httpx", "urllib.request", "urllib3", "aiohttp", "http.client", "s3fs", "botocore")
VAGUE_NAMES = {"utils", "util", "common", "shared", "misc", "helpers", "helper"}
MAIN_GUARDS = ("__name__ == '__main__'", "TYPE_CHECKING", "typing.TYPE_CHECKING")
REGISTRATION = re.compile(r"\w+\.(?:register|command|callback|add_typer)\(")
HOST_OR_MACHINE = re.compile(
    rb"p[y]pi\.org|python[h]osted|registry\.npm[j]s|--(?:extra-)?index-url|--find-links"
    rb"|(?<![\w.])/(?:w[o]rk|r[o]ot)/"
)
BINARY = (".safetensors", ".png", ".gz", ".ico", ".webp", ".jpg", ".woff2")


def architecture() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text("utf-8")


@pytest.mark.slow
def test_there_is_something_to_look_at():
    assert {source.package for source in product()} == set(PACKAGES)


@pytest.mark.slow
def test_every_file_opens_with_one_sentence():
    silent = [source.shown for source in product() if not ast.get_docstring(source.tree)]
    assert silent in ([], ["clients/python/konomi/v1/__init__.py"])  # that one is empty by design
    long = [s.shown for s in product() if len((ast.get_docstring(s.tree) or "").partition("\n")[0]) > 200]
    assert not long


def _odd_sizes() -> dict[str, int]:
    """Files that are less than a noun, or more than one; a guide and an entry point are short by nature."""
    short = [source for source in product() if source.path.stem not in ("__init__", "__main__")]
    odd = {source.shown: source.lines for source in short if source.lines < MIN_LINES}
    return odd | {source.shown: source.lines for source in product() if source.lines > MAX_LINES}


def test_a_file_is_one_noun_of_40_to_500_lines_or_architecture_says_why():
    excused = set(re.findall(r"^- `([^`]+\.py)`: \w", architecture(), re.MULTILINE))
    assert not {name: lines for name, lines in _odd_sizes().items() if name not in excused}
    assert excused <= set(_odd_sizes()), "these need no excuse any more"


def _folders() -> list[Path]:
    """Folders of the product and of its tests that hold files someone wrote."""
    files = [path for path in committed_files() if path.relative_to(ROOT).parts[0] in ("clients", "services", "tests")]
    return sorted({folder for path in files for folder in path.parents if folder.is_relative_to(ROOT)} - {ROOT})


@pytest.mark.slow
def test_one_look_at_a_folder_tells_its_story():
    kept = set(committed_files())
    crowded = {}
    for folder in _folders():
        names = {path.relative_to(folder).parts[0] for path in kept if path.is_relative_to(folder)}
        names -= {"__init__.py", "py.typed"}
        if len(names) > MAX_NAMES:
            crowded[folder.relative_to(ROOT).as_posix()] = len(names)
    assert not crowded


def _circles(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that can be reached from themselves along imports."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [*arrows[start]]
        while ahead:
            module = ahead.pop()
            if module not in seen:
                seen.add(module)
                ahead += arrows.get(module, ())
        return seen

    return [module for module in arrows if module in reached(module)]


def test_no_module_imports_itself_by_a_detour():
    modules = {source.module for source in product()}
    arrows = {source.module: {name for name in source.imports() if name in modules} for source in product()}
    guides = {source.module for source in product() if source.is_guide}
    assert _circles({name: targets - guides for name, targets in arrows.items() if name not in guides}) == []
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def _rooms_of(folder: Path) -> set[str]:
    """Names of the rooms and single files of a package, as ARCHITECTURE.md lists them."""
    kept = {path.relative_to(folder) for path in committed_files() if path.is_relative_to(folder)}
    names = {path.parts[0].removesuffix(".py") for path in kept if len(path.parts) > 1 or path.suffix == ".py"}
    return names - {"__init__", "__main__"}


@pytest.mark.parametrize("package", [*PACKAGES, "night"])
def test_architecture_lists_the_rooms_there_are(package: str):
    folder = PACKAGES.get(package, PACKAGES["konomi"] / "night")
    (listed,) = re.findall(rf"^ *{package} {{2,}}(.+)$", architecture(), re.MULTILINE)
    names = {re.sub(r" ?\(.*\)|/\{.*\}", "", name).strip() for name in listed.split("·")}
    assert names == _rooms_of(folder) - ({"configs"} if package == "konomi_chassis" else set())


def test_every_room_has_a_guide():
    rooms = {source.path.parent for source in product()} - {PACKAGES["konomi"] / "v1"}
    guides = {source.path.parent: ast.get_docstring(source.tree) or "" for source in product() if source.is_guide}
    assert not [str(room.relative_to(ROOT)) for room in rooms if len(guides.get(room, "")) < 80]


def test_names_say_what_a_file_is():
    assert not [s.shown for s in product() if VAGUE_NAMES & set(s.path.relative_to(ROOT).with_suffix("").parts)]


def _glossary() -> set[str]:
    """Words of ARCHITECTURE.md's table: two columns of them, and a cell may hold several ("rater; rater version")."""
    _, _, section = architecture().partition("\n## Words\n")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == ["word", "meaning"] * 2 and {len(row) for row in rows} == {4}
    return {word.strip() for row in rows[2:] for cell in row[::2] for word in cell.split(";")}


def _noun(name: str) -> str:
    """A class name as words: "BlindPair" is a "blind pair"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.lstrip("_")).lower()


def _shared_names(classes: Iterable[tuple[str, str]], words: set[str]) -> dict[str, set[str]]:
    """Names of classes of more than one package, with the packages; not those whose noun is among the words."""
    packages: dict[str, set[str]] = {}
    for package, name in classes:
        packages.setdefault(name, set()).add(package)
    return {name: where for name, where in packages.items() if len(where) > 1 and _noun(name) not in words}


def test_a_class_name_is_of_one_package_or_in_the_glossary():
    nodes = [(source.package, node) for source in product() for node in source.tree.body]
    classes = [(package, node.name) for package, node in nodes if isinstance(node, ast.ClassDef)]
    assert not _shared_names(classes, _glossary()), "rename one, or say in ARCHITECTURE.md what both mean"


def test_the_check_for_shared_class_names_can_fail():
    words = _glossary()
    assert {"taste", "rater version", "blind pair", "gateway"} <= words
    assert not words & {"", "word", "meaning", "what the slates of a taste have found"}
    classes = [("a", "BlindPair"), ("b", "BlindPair"), ("a", "Limits"), ("b", "Limits"), ("a", "Own"), ("a", "Own")]
    assert _shared_names(classes, words) == {"Limits": {"a", "b"}}
    assert _shared_names(classes, set()) == {"BlindPair": {"a", "b"}, "Limits": {"a", "b"}}


def test_each_service_folder_holds_one_package():
    for role in ("chassis", "rater", "generator", "trainer", "starter"):
        packages = [path.parent.name for path in (ROOT / "services" / role).glob("*/__init__.py")]
        assert packages == [f"konomi_{role}"]


def test_every_package_is_typed():
    assert all((folder / "py.typed").exists() for folder in PACKAGES.values())


@pytest.mark.parametrize("library", ONE_FILE_PER_PACKAGE)
@pytest.mark.slow
def test_a_heavy_library_has_one_file_per_package(library: str):
    for package in PACKAGES.keys() - {"konomi_starter"}:  # its recipe, run by hand, trains what they load
        users = [source.shown for source in product() if source.package == package and source.imports_from(library)]
        assert len(users) <= 1, f"keep {library} behind one file of {package}"


def test_servers_use_only_contract_errors_and_settings_of_the_client():
    for source in product():
        allowed = OF_THE_CLIENT | ({"konomi.client", "konomi"} if source.package == "konomi_starter" else set())
        used = {".".join(name.split(".")[:2]) for name in source.imports() if name.startswith("konomi.")}
        if any(isinstance(n, ast.Import) and "konomi" in [a.name for a in n.names] for n in ast.walk(source.tree)):
            used |= {"konomi"}
        assert source.package == "konomi" or used <= allowed, source.shown


def test_only_tests_import_the_starter():
    others = [source for source in product() if source.package != "konomi_starter"]
    assert not [source.shown for source in others if source.imports_from("konomi_starter")]


@pytest.mark.slow
def test_no_pickle_and_no_code_from_data():
    found = {(s.shown, name) for s in product() for name in BANNED_MODULES if s.imports_from(name)}
    assert found == {(CONVERSION, "picklescan")}
    for source in product():
        for call in source.calls():
            name = ast.unparse(call.func)
            where = f"{source.shown}:{call.lineno}: {name}"
            assert name not in BANNED_CALLS or name in CHILDREN.get(source.shown, ()), where
            if name == "torch.load":
                assert [k for k in call.keywords if k.arg == "weights_only" and ast.unparse(k.value) == "True"], where
            unsafe = [k for k in call.keywords if k.arg in MUST_BE_FALSE and ast.unparse(k.value) != "False"]
            assert not unsafe, where
            if name in ("np.save", "numpy.save", "np.savez", "numpy.savez"):
                assert any(k.arg == "allow_pickle" for k in call.keywords), f"{where} pickles unless told not to"


@pytest.mark.slow
def test_only_its_own_child_and_command_know_of_the_conversion():
    children = ("konomi_generator.model_import.conversion_worker", "konomi_rater.embedding.conversion_worker")
    assert not [source.shown for source in product() for child in children if source.imports_from(child)]
    named = {s.shown for s in product() if "model_import.conversion_worker" in s.path.read_text("utf-8")}
    assert named == {CONVERSION, "services/generator/konomi_generator/model_import/importer.py"}


@pytest.mark.slow
def test_servers_fetch_no_url():
    servers = [source for source in product() if source.package not in ("konomi", "konomi_starter")]
    found = {(source.shown, name) for source in servers for name in HTTP_CLIENTS if source.imports_from(name)}
    assert found == {(SDAPI, "http.client"), (S3, "s3fs"), (S3, "botocore")}, "each asks one address that the owner set"


def _acts(statement: ast.stmt) -> bool:
    """Tells whether a module-level statement is more than a definition, a constant, a registration or an import."""
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant) and not REGISTRATION.match(ast.unparse(statement))
    if isinstance(statement, ast.If):
        return ast.unparse(statement.test) not in MAIN_GUARDS
    if isinstance(statement, ast.Try):
        return any(_acts(inner) for inner in statement.body)
    return isinstance(statement, ast.For | ast.While | ast.With | ast.Raise | ast.Delete | ast.Assert)


def _unguarded(source: Source) -> list[str]:
    return [f"{source.shown}:{node.lineno}: {ast.unparse(node)[:60]}" for node in source.tree.body if _acts(node)]


def test_a_module_only_defines_things():
    assert not [line for source in product() for line in _unguarded(source)]


def test_the_check_for_acting_modules_can_fail():
    acting = ast.parse("import os\nos.makedirs('x')\nfor i in range(3):\n    print(i)\nx = 1\n'text'")
    assert [_acts(node) for node in acting.body] == [False, True, True, False, False]


def test_no_promise_is_left_as_a_stub():
    stub = re.compile(r"\b(?:TODO|FIXME|XXX)\b|raise NotImplementedError")
    assert not [source.shown for source in product() if stub.search(source.path.read_text("utf-8"))]


def test_loose_json_stays_at_the_borders_of_the_client():
    """A `dict[str, Any]` is JSON read or written, the arguments of a library, or settings as a night recorded them."""
    loose = {s.shown: s.path.read_text("utf-8").count("dict[str, Any]") for s in product() if s.package == "konomi"}
    assert sum(loose.values()) <= MOST_LOOSE, {name: count for name, count in loose.items() if count}


def test_no_function_is_longer_than_a_page():
    long = [
        f"{source.shown} {node.name}"
        for source in product()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= MAX_FUNCTION
    ]
    assert not long


def test_a_lock_is_never_a_mark_in_a_file():
    """Filelock falls back to one where there is no flock; it would outlive a writer that was killed."""
    calls = [
        node
        for source in product()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("FileLock")
    ]
    assert len(calls) >= 4
    assert all("fallback_to_soft=False" in ast.unparse(call) for call in calls)


def test_no_bare_except():
    handlers = [(s.shown, n) for s in product() for n in ast.walk(s.tree) if isinstance(n, ast.ExceptHandler)]
    assert not [f"{shown}:{handler.lineno}" for shown, handler in handlers if handler.type is None]


def test_no_host_names_and_no_machine_paths_are_committed():
    this_file = ROOT / "tests/contract/test_structure.py"
    found = []
    for path in committed_files():
        if path == this_file or path.suffix in BINARY or not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if hit := HOST_OR_MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {hit[0].decode()}")
    assert not found


def test_no_file_others_wrote_and_no_link_out_of_the_repository_is_committed():
    names = {path.name for path in committed_files()}
    assert not names & {"uv.lock", "package-lock.json", "poetry.lock"}
    assert not [str(path) for path in committed_files() if not path.resolve().is_relative_to(ROOT)]


def test_no_pickle_capable_file_is_committed():
    unsafe = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin")
    assert not [path for path in committed_files() if path.suffix in unsafe]


def test_pins_carry_hashes_and_no_address():
    text = (ROOT / "constraints.txt").read_text("utf-8")
    assert "://" not in text
    blocks = re.split(r"^(?=[A-Za-z0-9_.\-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) > 100
    assert all("--hash=sha256:" in block for block in blocks)
