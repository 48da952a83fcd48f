"""What konomi refuses, a page a language: the reasons' codes, their statuses and what a reader is told."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from konomi import errors
from konomi.client.refusals import OF_REASON
from konomi.i18n.catalogue import speaking, text

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "What konomi refuses",
        "intro": (
            "Every refusal of a service has a reason, a gRPC status, and a sentence that says what to do. The page and "
            "the shell print the sentence; programs read the reason in the `google.rpc.ErrorInfo` of the status "
            "(`konomi.errors` does it for Python). Search this page for a word of what you were told. What only one "
            "command says, it explains in its own message."
        ),
        "head": "| you are told | reason | status |",
    },
    "ja": {
        "title": "断られたとき",
        "intro": (
            "サービスが断るときは、理由のコードと gRPC のステータス、「どうすればよいか」を示す文があります。"
            "ページとコマンドはその文を表示し、プログラムはステータスの `google.rpc.ErrorInfo` にある理由を読みます"
            "（Python では `konomi.errors`）。表示された言葉でこのページを検索してください。"
            "一つのコマンドだけが言うことは、そのメッセージ自体が説明します。"
        ),
        "head": "| 表示される文 | 理由 | ステータス |",
    },
}


def page(root: Path, language: str) -> str:
    """Returns the page of all reasons in a language, by what is told."""
    words, statuses = WORDS[language], _statuses(root)
    with speaking(language):
        told = [(text(sentence), reason) for reason, sentence in OF_REASON.items()]
    rows = [f"| {sentence} | `{reason}` | {statuses.get(reason, '')} |" for sentence, reason in sorted(told)]
    return "\n".join([f"# {words['title']}", "", words["intro"], "", words["head"], "|---|---|---|", *rows, ""])


def _statuses(root: Path) -> dict[str, str]:
    """Returns the statuses a reason comes with, by where it is raised."""
    found: dict[str, set[str]] = defaultdict(set)
    for reason in errors.GONE:
        found[reason].add(errors.NotFound.code.name)
    for path in sorted([*root.glob("services/*/konomi_*/**/*.py"), *root.glob("clients/python/konomi/**/*.py")]):
        for reason, kind in _raised(ast.parse(path.read_text("utf-8"))):
            found[reason].add(kind)
    return {reason: ", ".join(sorted(kinds)) for reason, kinds in found.items()}


def _raised(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yields reasons and the status each is raised with, by an error of ours or by a class made of one."""
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    bases = {call: base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for call, base in _inside(node)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        kind = _kind(call.func) or bases.get(call)
        for keyword in call.keywords if kind is not None else ():
            value = keyword.value
            reason = value.value if isinstance(value, ast.Constant) else constants.get(getattr(value, "id", ""))
            if keyword.arg == "reason" and isinstance(reason, str) and kind is not None:
                yield reason, kind.code.name


def _inside(node: ast.ClassDef) -> Iterator[tuple[ast.Call, type[errors.KonomiError]]]:
    kind = next((found for base in node.bases if (found := _kind(base)) is not None), None)
    for call in ast.walk(node) if kind is not None else ():
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__" and kind is not None:
            yield call, kind


def _kind(name: ast.expr) -> type[errors.KonomiError] | None:
    """Returns the error a name in the code means; None where it means none of ours."""
    last = name.id if isinstance(name, ast.Name) else getattr(name, "attr", "")
    kind = getattr(errors, last, None)
    return kind if isinstance(kind, type) and issubclass(kind, errors.KonomiError) else None
