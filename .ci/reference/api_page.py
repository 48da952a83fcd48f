"""The contract: services, calls, messages and fields, with the comments of the proto files."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

MESSAGES, ENUMS, SERVICES, FIELDS, NESTED, VALUES, METHODS = (4,), (5,), (6,), (2,), (3,), (2,), (2,)
"""Numbers of the lists in a descriptor, of which the places of comments are made (descriptor.proto, SourceCodeInfo)."""
SCALARS = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}
Comments = Mapping[tuple[int, ...], str]


def page(root: Path) -> str:
    """Returns the page of the whole contract."""
    command = [str(Path(sys.executable).with_name("buf")), "build", "--as-file-descriptor-set", "-o", "-"]
    built = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    files = [file for file in FileDescriptorSet.FromString(built).file if file.package.startswith("konomi.")]
    lines = [
        "# API",
        "",
        "The gRPC contract `konomi.v1`, from the comments of [its proto files](../../proto/konomi/v1). How to call it: "
        "[cookbook](../cookbook.md), [Python](../python-sdk.md); who may call what: [security](../security.md).",
        "",
    ]
    for file in sorted(files, key=lambda file: (not file.service, file.name)):
        lines += _file(file)
    return "\n".join(lines)


def _file(file: FileDescriptorProto) -> Iterator[str]:
    comments = {tuple(place.path): " ".join(place.leading_comments.split()) for place in file.source_code_info.location}
    for number, service in enumerate(file.service):
        yield from _service(service, comments, (*SERVICES, number))
    for number, message in enumerate(file.message_type):
        yield from _message(message, "", comments, (*MESSAGES, number))
    for number, enum in enumerate(file.enum_type):
        yield from _enum(enum, comments, (*ENUMS, number))


def _service(service: ServiceDescriptorProto, comments: Comments, at: Sequence[int]) -> Iterator[str]:
    yield from (
        f"## {service.name}",
        "",
        comments.get(tuple(at), ""),
        "",
        "| call | takes | returns | |",
        "|---|---|---|---|",
    )
    for number, method in enumerate(service.method):
        takes, returns = (_link(name) for name in (method.input_type, method.output_type))
        takes = f"stream of {takes}" if method.client_streaming else takes
        returns = f"stream of {returns}" if method.server_streaming else returns
        said = _cell(comments.get((*at, *METHODS, number), ""))
        yield f"| `{method.name}` | {takes} | {returns} | {said} |"
    yield ""


def _message(message: DescriptorProto, outer: str, comments: Comments, at: Sequence[int]) -> Iterator[str]:
    if message.options.map_entry:
        return
    name = f"{outer}{message.name}"
    yield from (f"### {name}", "", comments.get(tuple(at), ""), "")
    if message.field:
        yield from ("| field | type | |", "|---|---|---|")
    for number, field in enumerate(message.field):
        yield f"| `{field.name}` | {_type(field)} | {_cell(comments.get((*at, *FIELDS, number), ''))} |"
    yield ""
    for number, nested in enumerate(message.nested_type):
        yield from _message(nested, f"{name}.", comments, (*at, *NESTED, number))


def _enum(enum: EnumDescriptorProto, comments: Comments, at: Sequence[int]) -> Iterator[str]:
    yield from (f"### {enum.name}", "", comments.get(tuple(at), ""), "", "| value | | |", "|---|---|---|")
    for number, value in enumerate(enum.value):
        yield f"| `{value.name}` | {value.number} | {_cell(comments.get((*at, *VALUES, number), ''))} |"
    yield ""


def _type(field: FieldDescriptorProto) -> str:
    kind = _link(field.type_name) if field.type_name else SCALARS[field.type]
    return f"list of {kind}" if field.label == FieldDescriptorProto.LABEL_REPEATED else kind


def _link(name: str) -> str:
    """Returns a message's name as a link to its heading, one of ours; others by their full name."""
    if not name.startswith(".konomi.v1."):
        return f"`{name.lstrip('.')}`"
    short = name.removeprefix(".konomi.v1.")
    if short.endswith("Entry"):
        return "map"
    return f"[{short}](#{short.lower().replace('.', '')})"


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")
