"""Manifests: what is read, and that every malformed one names its field."""

import json

import pytest

from konomi.errors import InvalidArgument
from konomi_trainer.data.manifest import ManifestItem, parse, render

A, B = "a" * 64, "b" * 64


def row(**changes: object) -> dict[str, object]:
    return {"digest": A, "caption": "", "weight": 1, "role": "selected", **changes}


def document(*items: object, schema: object = "konomi.manifest/1") -> bytes:
    return json.dumps({"schema": schema, "items": list(items)}).encode()


def test_what_is_written_is_read() -> None:
    items = (ManifestItem(B, "長い髪, comic", 2.5, "base"), ManifestItem(A, "", 1.0, "selected"))
    assert parse(render(items)) == items[::-1]
    assert render(items) == render(items[::-1])
    avoided = (*items, ManifestItem("c" * 64, "", 1.0, "avoided"))
    assert json.loads(render(avoided))["schema"] == "konomi.manifest/2" and len(parse(render(avoided))) == 3


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"\xff", "manifest"),
        (b"[" * 100_000, "manifest"),
        (b"[]", "manifest"),
        (b'{"schema":"konomi.manifest/1"}', "manifest"),
        (document(row(), schema="konomi.manifest/2"), "manifest.schema"),
        (document(row(role="avoided")), "manifest.schema"),
        (document(row(), schema="konomi.manifest/3"), "manifest.schema"),
        (document(), "manifest.items"),
        (b'{"schema":"konomi.manifest/1","items":{}}', "manifest.items"),
        (document(row(), 7), "manifest.items[1]"),
        (document(row(path="x")), "manifest.items[0]"),
        (document(row(digest=A.upper())), "manifest.items[0].digest"),
        (document(row(digest=B), row()), "manifest.items[1].digest"),
        (document(row(), row()), "manifest.items[1].digest"),
        (document(row(caption=None)), "manifest.items[0].caption"),
        (document(row(caption="a\nb")), "manifest.items[0].caption"),
        (document(row(caption="\ud800")), "manifest.items[0].caption"),
        (document(row(caption="x" * 4097)), "manifest.items[0].caption"),
        (document(row(weight=0)), "manifest.items[0].weight"),
        (document(row(weight=float("nan"))), "manifest.items[0].weight"),
        (document(row(weight=10**400)), "manifest.items[0].weight"),
        (document(row(weight=True)), "manifest.items[0].weight"),
        (document(row(role="best")), "manifest.items[0].role"),
    ],
)
def test_a_malformed_manifest_names_its_field(data: bytes, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(data)
    assert caught.value.field == field
