"""The settings: a page a language, and an example of konomi.toml, both from the settings classes."""

import importlib
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from konomi.night.systems.registry import night_settings
from konomi.settings import KonomiSettings

TRANSLATIONS = Path(__file__).with_name("settings.ja.po")
ROOTS = ("services/*", "clients/python")
"""Folders that hold packages."""
ORDER = ("server", "store", "decode", "rater", "generator", "trainer", "page", "night", "guards", "storage")
"""Tables in the order of the page; others follow."""
WIDTH = 118
WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Settings",
        "intro": (
            "Every setting of konomi, made from the code that reads it. A setting stands in `konomi.toml` in the home "
            "folder (`KONOMI_HOME`), in the table named here, or in the environment under the name given for the "
            "table; the environment beats the file, and a flag of a command beats both. An unknown key is an error. "
            "All of them with their defaults, to copy from: [konomi.example.toml](../../deploy/konomi.example.toml)."
        ),
        "environment": "In the environment: `{name}` and so on.",
        "head": "| setting | default | what it does |",
        "none": "none",
        "own": "in the package",
        "one": "one of {values}",
        "from": "{least} or more",
        "above": "more than {least}",
        "to": "at most {most}",
        "between": "{least} to {most}",
    },
    "ja": {
        "title": "設定",
        "intro": (
            "konomi のすべての設定です。このページは、設定を読むコードそのものから作られています。"
            "設定は、ホームのフォルダー（`KONOMI_HOME`）にある `konomi.toml` の、ここに示す表の中に書きます。"
            "環境変数でも指定できます（名前は表ごとに示します）。環境変数はファイルに優先し、コマンドのオプションは"
            "両方に優先します。知らない名前はエラーになります。"
            "既定値をすべて並べた例: [konomi.example.toml](../../deploy/konomi.example.toml)。"
        ),
        "environment": "環境変数では `{name}` のように書きます。",
        "head": "| 設定 | 既定値 | 働き |",
        "none": "なし",
        "own": "パッケージの中",
        "one": "{values} のどれか",
        "from": "{least} 以上",
        "above": "{least} より大きい値",
        "to": "{most} 以下",
        "between": "{least}〜{most}",
    },
}


@dataclass(frozen=True)
class Setting:
    """A setting: its name, its default as TOML or None where it has none, the JSON schema of its values, its words."""

    name: str
    default: str | None
    schema: Mapping[str, Any]
    words: str
    in_package: bool = False


@dataclass(frozen=True)
class Table:
    """A table of konomi.toml: its name, what is said of it, how the environment names its settings, the settings."""

    name: str
    words: str
    prefix: str
    settings: tuple[Setting, ...]


def classes(root: Path) -> dict[str, type[KonomiSettings]]:
    """Returns the class of every table, in the order of the page; they are found by the tables they name."""
    found: dict[str, type[KonomiSettings]] = {}
    for path in sorted(path for part in ROOTS for path in root.glob(f"{part}/konomi*/**/*.py")):
        for name in re.findall(r'^    toml_table: ClassVar\[str\] = "(\w+)"', path.read_text("utf-8"), re.MULTILINE):
            module = importlib.import_module(_module(path))
            found[name] = next(
                one
                for one in vars(module).values()
                if isinstance(one, type) and issubclass(one, KonomiSettings) and one.toml_table == name
            )
    found["night"] = night_settings()
    return {
        name: found[name] for name in sorted(found, key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n))
    }


def tables(root: Path) -> tuple[Table, ...]:
    """Returns every table there is."""
    return tuple(_table(name, kind) for name, kind in classes(root).items())


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    start = next(place for place, part in enumerate(parts) if part.startswith("konomi"))
    while (Path(*parts[:start]) / "__init__.py").exists() or not (Path(*parts[: start + 1]) / "__init__.py").exists():
        start += 1
    return ".".join(parts[start:])


def _table(name: str, kind: type[KonomiSettings]) -> Table:
    schema = kind.model_json_schema()["properties"]
    settings = tuple(_setting(kind, key, schema[key]) for key in kind.model_fields if key != "home")
    prefix = str(kind.model_config.get("env_prefix", ""))
    return Table(name, _joined((kind.__doc__ or "").partition("\n\n")[0]), prefix, settings)


def _setting(kind: type[KonomiSettings], name: str, schema: Mapping[str, Any]) -> Setting:
    default = kind.model_fields[name].get_default(call_default_factory=True, validated_data={})
    own = isinstance(default, Path) and default.is_absolute()
    told = None if default is None or own else _toml(default)
    return Setting(name, told, schema, _joined(str(schema.get("description", ""))), own)


def _toml(value: Any) -> str:
    """Returns a value as TOML writes it; JSON does the same for all that settings hold."""
    plain = {"value": value}
    dumped = json.dumps(plain, default=lambda one: list(one) if isinstance(one, (set, frozenset)) else str(one))
    return dumped.removeprefix('{"value": ').removesuffix("}")


def _joined(words: str) -> str:
    return " ".join(words.split())


def translate(found: Sequence[Table], *, write: bool) -> list[str]:
    """Brings the Japanese up to the English of the classes; returns what has none."""
    before = _catalogue()
    catalogue = Catalog(locale="ja", header_comment="# The settings' words in Japanese; the English is in the code.")
    for table in found:
        for sentence in (table.words, *(setting.words for setting in table.settings)):
            if sentence and catalogue.get(sentence) is None:
                known = before.get(sentence)
                catalogue.add(sentence, known.string if known is not None else "", user_comments=[table.name])
    if write:
        with TRANSLATIONS.open("wb") as file:
            write_po(file, catalogue, width=WIDTH, omit_header=True)
    return [str(message.id) for message in catalogue if message.id and not message.string]


def _catalogue() -> Catalog:
    if not TRANSLATIONS.exists():
        return Catalog()
    with TRANSLATIONS.open("rb") as file:
        return read_po(file, locale="ja")


def page(found: Sequence[Table], language: str) -> str:
    """Returns the page of all settings in a language."""
    words, catalogue = WORDS[language], _catalogue()

    def said(english: str) -> str:
        message = catalogue.get(english) if language == "ja" else None
        return str(message.string) if message is not None and message.string else english

    lines = [f"# {words['title']}", "", words["intro"], ""]
    for table in found:
        name = f"{table.prefix}{table.settings[0].name}".upper()
        lines += [f"## `[{table.name}]`", "", said(table.words), words["environment"].format(name=name), ""]
        lines += [words["head"], "|---|---|---|"]
        for setting in table.settings:
            meaning = said(setting.words).replace("|", "\\|")
            lines.append(f"| `{setting.name}` | {_default(setting, words)} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _default(setting: Setting, words: Mapping[str, str]) -> str:
    shown = words["own"] if setting.in_package else words["none"] if setting.default is None else f"`{setting.default}`"
    allowed = _allowed(setting.schema, words)
    return f"{shown} ({allowed})" if allowed and words is WORDS["en"] else f"{shown}（{allowed}）" if allowed else shown


def _allowed(schema: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Returns the values a setting may have, where its schema says so."""
    for part in (schema, *schema.get("anyOf", ())):
        if "enum" in part:
            return words["one"].format(values=", ".join(f"`{_toml(value)}`" for value in part["enum"]))
    for part in (schema, *schema.get("anyOf", ())):
        least, most = part.get("minimum"), part.get("maximum")
        if least is not None and most is not None:
            return words["between"].format(least=least, most=most)
        if least is not None:
            return words["from"].format(least=least)
        if "exclusiveMinimum" in part:
            return words["above"].format(least=part["exclusiveMinimum"])
        if most is not None:
            return words["to"].format(most=most)
    return ""


def example(found: Sequence[Table]) -> str:
    """Returns a konomi.toml of every setting with its default; one that has none stands as a comment."""
    lines = [
        "# Every setting of konomi with its default, made by `make reference`; copy what you change to konomi.toml in",
        "# your home folder (KONOMI_HOME). The environment beats the file. Unknown keys are errors.",
    ]
    for table in found:
        lines += ["", f"[{table.name}]"]
        for setting in table.settings:
            lines += textwrap.wrap(setting.words, WIDTH, initial_indent="# ", subsequent_indent="# ")
            lines.append(f"# {setting.name} =" if setting.default is None else f"{setting.name} = {setting.default}")
    return "\n".join(lines) + "\n"
