"""A frozen part of what a night keeps as JSON.

A change makes a new one (`changed`). `plain` gives the JSON that was set and nothing else, and fields this version does
not know are kept, so what another version recorded is read and written back unharmed.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen part of a night's state.

    Two records are equal where what they hold is; which fields were set is no part of that.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    def changed(self, **fields: Any) -> Self:
        """Returns the record with some fields changed; a name it does not have is a fault of the program.

        Raises:
            AttributeError: there is no such field.
        """
        unknown = fields.keys() - type(self).model_fields.keys()
        if unknown:
            raise AttributeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        return self.model_copy(update=fields)

    def merged(self, other: Self, but: str = "") -> Self:
        """Returns the record with everything that was set of another over it, but for one field."""
        names = other.model_fields_set - {but}
        return self.model_copy(update={name: getattr(other, name) for name in names})

    def has(self, name: str) -> bool:
        """Says whether a field, or one of another version, was set; a default is none that was."""
        return name in self.model_fields_set

    def plain(self) -> dict[str, Any]:
        """Returns the record as JSON has it: what was set."""
        return self.model_dump(mode="json", exclude_unset=True)
