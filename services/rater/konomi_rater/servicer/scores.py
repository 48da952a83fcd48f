"""Scores over the wire: the taste a stream of images is scored for."""

from konomi.errors import InvalidArgument


def _stream_taste(current: str, given: list[str], *, required: bool = True) -> str:
    """Returns the taste of a stream: the first message decides, later ones repeat it or leave it empty."""
    for name in given:
        if name and current and name != current:
            raise InvalidArgument(
                f"expected one taste in a stream ({current}), found {name[:80]!r} too; open another stream",
                reason="TASTE_CHANGED",
                field="taste",
            )
        current = current or name
        if required and not current:
            raise InvalidArgument(
                'expected "tastes/{id}" in the first message, found none', reason="TASTE_REQUIRED", field="taste"
            )
    return current
