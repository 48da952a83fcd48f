"""Keeps the catalogue of words true to the code: `update` renews every .po file, `check` says where one lags behind.

English is written in the code: as the first argument of `text`, `plural` and `translatable` of `konomi.i18n.catalogue`,
as the help of a command and of its options, as the column names of a table, and, for the page, in
`web/static/i18n/en.json`. A sentence that is chosen first and translated later (`text(MEANINGS[name])`) is followed to
the literals it can be; one that is kept in an object (`text(alarm.english)`) has to be marked with `N_` where it is
written.
"""

import ast
import string
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po

from hatch_build import PACKAGE, page_context, page_words

FRONT = "i18n/catalogue.py"
TRANSLATED_LATER = {FRONT, "cli/commands.py", "cli/console.py", "night/alarms.py"}
"""Where `text` may get what other files wrote: help, and the columns of tables."""
HELP_OF = {"Option", "Argument", "Typer", "CommandEntry", "command", "callback", "add_typer"}
OF_TYPER = (
    "Usage:",
    "Options",
    "Arguments",
    "Commands",
    "required",
    "default: {default}",
    "Show this message and exit.",
    "Install completion for the current shell.",
    "Show completion for the current shell, to copy it or customize the installation.",
)
"""Words typer prints around our help."""
MARK = "N_"
"""Marks a sentence that is kept as a value and translated where it is read."""
DEEPEST = 6
"""How many steps a sentence is followed back."""
EXAMPLE = "Example: konomi "
"""In the docstring of every command, and of nothing else."""


class Module:
    """One Python file and the sentences in it.

    Attributes:
        name: its path inside the package.
        sentences: singular to plural, or to None.
        riddles: lines where `text` gets something that is no literal anywhere.
    """

    def __init__(self, package: Path, path: Path) -> None:
        self.package = package
        self.name = path.relative_to(package).as_posix()
        self.tree = ast.parse(path.read_text("utf-8"))
        self.sentences: dict[str, str | None] = {}
        self.riddles: list[str] = []
        self.translates = {
            alias.asname or alias.name
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom) and node.module in ("konomi.i18n.catalogue", "konomi.i18n")
            for alias in node.names
        }
        if self.name == FRONT:
            self.translates.add("text")

    def read(self) -> None:
        """Collects the sentences."""
        self._visit(self.tree, [self.tree])

    def _visit(self, node: ast.AST, scopes: list[ast.AST]) -> None:
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            scopes = [*scopes, node]
        if isinstance(node, ast.FunctionDef) and EXAMPLE in (ast.get_docstring(node) or ""):
            self._add(*paragraphs(ast.get_docstring(node) or ""))
        if isinstance(node, ast.Call):
            self._call(node, scopes)
        for child in ast.iter_child_nodes(node):
            self._visit(child, scopes)

    def _call(self, node: ast.Call, scopes: list[ast.AST]) -> None:
        name = called(node)
        if name in ("text", "plural", "translatable") and self._is_ours(node):
            self._translation(node, name, scopes)
        elif name == MARK:
            self._add(*self._literals(node, scopes))
        elif name in HELP_OF:
            words = [keyword.value for keyword in node.keywords if keyword.arg in ("help", "epilog")]
            words += node.args[2:3] if name == "CommandEntry" else []
            self._add(
                *(part for word in words for literal in self._literals(word, scopes) for part in paragraphs(literal))
            )
        elif name == "table" and node.args:
            self._add(*self._literals(node.args[0], scopes))

    def _is_ours(self, node: ast.Call) -> bool:
        root = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        return isinstance(root, ast.Name) and root.id in self.translates

    def _translation(self, node: ast.Call, name: str, scopes: list[ast.AST]) -> None:
        literals = list(self._literals(node.args[0], scopes))
        if name == "plural":
            self.sentences[literals[0]] = next(self._literals(node.args[1], scopes))
            return
        if not literals and self.name not in TRANSLATED_LATER and not kept_elsewhere(node.args[0]):
            self.riddles.append(f"{self.name}:{node.lineno}: text() gets no literal the catalogue could hold")
        self._add(*literals)

    def _add(self, *sentences: str) -> None:
        for sentence in sentences:
            if sentence:
                self.sentences.setdefault(sentence, None)

    def _literals(self, node: ast.AST, scopes: list[ast.AST], depth: int = 0) -> Iterator[str]:
        """Yields every string an expression may be, following names to what is bound to them in this package."""
        if depth > DEEPEST:
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name):
            yield from self._named(node.id, scopes, depth)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            sides = [list(self._literals(side, scopes, depth + 1)) for side in (node.left, node.right)]
            yield from sides[0] + sides[1] if _sequence(node) else map("".join, zip(*sides, strict=False))
        else:
            for part in alternatives(node):
                yield from self._literals(part, scopes, depth + 1)

    def _named(self, name: str, scopes: list[ast.AST], depth: int) -> Iterator[str]:
        for scope in reversed(scopes):
            values = [*bound(name, scope), *self._arguments(name, scope)]
            for value in values:
                yield from self._literals(value, scopes, depth + 1)
            if values:
                return
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.ImportFrom)
                and (node.module or "").startswith("konomi.")
                and name in [a.name for a in node.names]
            ):
                path = self.package.joinpath(*node.module.split(".")[1:]).with_suffix(".py")
                if path.exists():
                    other = Module(self.package, path)
                    yield from other._literals(ast.Name(name), [other.tree], depth + 1)
                    return

    def _arguments(self, name: str, scope: ast.AST) -> Iterator[ast.AST]:
        """Yields what this file passes for a parameter of one of its functions."""
        if not isinstance(scope, ast.FunctionDef):
            return
        names = [argument.arg for argument in scope.args.args if argument.arg not in ("self", "cls")]
        if name not in names:
            return
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and called(node) == scope.name:
                yield from node.args[names.index(name) :][:1]
                yield from (keyword.value for keyword in node.keywords if keyword.arg == name)


def _sequence(node: ast.BinOp) -> bool:
    return any(isinstance(side, (ast.Tuple, ast.List)) for side in (node.left, node.right))


def kept_elsewhere(node: ast.AST) -> bool:
    """Tells whether an expression is an attribute of an object, or one of several."""
    parts = alternatives(node)
    return isinstance(node, ast.Attribute) or (bool(parts) and all(kept_elsewhere(part) for part in parts))


def alternatives(node: ast.AST) -> list[ast.AST]:
    """Returns the parts of an expression that its value, or a value in it, can be."""
    match node:
        case ast.Dict():
            return list(node.values)
        case ast.Tuple() | ast.List() | ast.Set():
            return list(node.elts)
        case ast.IfExp():
            return [node.body, node.orelse]
        case ast.BoolOp():
            return list(node.values)
        case ast.Starred() | ast.Subscript():
            return [node.value]
        case ast.Call(func=ast.Attribute(attr="get", value=mapping)):
            return [mapping, *node.args[1:]]
        case ast.Call(func=ast.Name(id=name)) if name == MARK:
            return list(node.args)
    return []


def bound(name: str, scope: ast.AST) -> Iterator[ast.AST]:
    """Yields the expressions a scope binds to a name, those of a loop and of an unpacked tuple at their place."""
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)) and node.value is not None:
            pairs = [(node.target, node.value)]
        elif isinstance(node, (ast.For, ast.comprehension)):
            values = node.iter.elts if isinstance(node.iter, (ast.Tuple, ast.List)) else [node.iter]
            pairs = [(node.target, value) for value in values]
        else:
            continue
        for target, value in pairs:
            yield from _matched(name, target, value)


def _matched(name: str, target: ast.AST, value: ast.AST) -> Iterator[ast.AST]:
    if isinstance(target, ast.Name) and target.id == name:
        yield value
    if isinstance(target, ast.Tuple):
        if isinstance(value, ast.IfExp):
            yield from _matched(name, target, value.body)
            yield from _matched(name, target, value.orelse)
        for index, part in enumerate(target.elts):
            if isinstance(part, ast.Name) and part.id == name:
                yield (
                    value.elts[index] if isinstance(value, (ast.Tuple, ast.List)) and index < len(value.elts) else value
                )


def called(node: ast.AST) -> str:
    """Returns the last name of what is called."""
    function = node.func if isinstance(node, ast.Call) else node
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def paragraphs(words: str) -> list[str]:
    """Returns a help text as it is translated: paragraph by paragraph, without the command of its example."""
    parts = [" ".join(part.split()) for part in words.strip().split("\n\n")]
    return ["Example:" if part.startswith("Example: ") else part for part in parts if part]


def extracted(package: Path = PACKAGE) -> tuple[Catalog, list[str]]:
    """Returns every message of the product, and the complaints about what cannot be one."""
    catalog = Catalog()
    for sentence in OF_TYPER:
        catalog.add(sentence, locations=[("typer", 0)], flags=["python-brace-format"] if "{" in sentence else [])
    complaints: list[str] = []
    for path in sorted(package.rglob("*.py")):
        if path.stem.endswith(("_pb2", "_pb2_grpc")):
            continue
        module = Module(package, path)
        module.read()
        complaints += module.riddles
        for singular, plural in module.sentences.items():
            catalog.add((singular, plural) if plural else singular, locations=[(module.name, 0)])
    for key, english in page_words(package).items():
        catalog.add(english, context=page_context(key), locations=[("web/static/i18n/en.json", 0)])
    return catalog, complaints


def renew(kept: Catalog, code: Catalog, path: Path) -> None:
    """Writes a language again: new messages empty, those gone from the code dropped, the header as it was."""
    created = kept.creation_date
    kept.update(code, no_fuzzy_matching=True)
    kept.obsolete.clear()
    kept.header_comment = f"# {path.parts[-3]}: `make words` keeps the English true to the code, a person translates."
    kept.project, kept.version = "konomi", "0.1"
    kept.creation_date = kept.revision_date = created
    kept.msgid_bugs_address = kept.last_translator = kept.language_team = "konomi"
    with path.open("wb") as file:
        write_po(file, kept, width=110, include_lineno=False, ignore_obsolete=True)


def faults(code: Catalog, kept: Catalog) -> Iterator[str]:
    """Yields what is wrong with a language: missing, unused, untranslated and fuzzy messages, other names in braces."""
    known = {(message.context, message.id): message for message in kept if message.id}
    used = {(message.context, message.id) for message in code if message.id}
    yield from (f"unused: {shown(key)}" for key in known if key not in used)
    for key in used:
        message = known.get(key)
        if message is None:
            yield f"not in the catalogue: {shown(key)}"
        elif message.fuzzy or not all(strings(message)):
            yield f"not translated: {shown(key)}"
        elif any(fields(words) != fields(ids(message)[-1]) for words in strings(message)):
            yield f"other names in braces: {shown(key)}"


def shown(key: tuple[str | None, str | tuple[str, ...]]) -> str:
    """Returns a message as a complaint names it."""
    context, identity = key
    words = identity if isinstance(identity, str) else identity[0]
    return f"{context}: {words}" if context else words


def ids(message: Message) -> tuple[str, ...]:
    """Returns the English of a message, singular and plural."""
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def strings(message: Message) -> tuple[str, ...]:
    """Returns the translation of a message, in all its forms."""
    return tuple(message.string) if isinstance(message.string, tuple) else (message.string or "",)


def fields(words: str) -> set[str]:
    """Returns the names a sentence leaves to be filled in."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(words) if name}
    except ValueError:  # a lone brace: the sentence is never formatted
        return set()


def main(arguments: list[str]) -> int:
    """Runs `update` or `check` over every language and returns the exit code."""
    code, complaints = extracted()
    for path in sorted(PACKAGE.glob("locale/*/LC_MESSAGES/konomi.po")):
        language = path.parts[-3]
        with path.open("rb") as file:
            kept = read_po(file, locale=language)
        if arguments == ["update"]:
            renew(kept, code, path)
        complaints += [f"{language}: {fault}" for fault in faults(code, kept)]
    print("\n".join(sorted(complaints)) or f"{len(code)} messages, every language complete")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
