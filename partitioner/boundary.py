"""What the values at the boundary share: settings of pydantic, and errors in this package's words.

Knows nothing of what the values mean.
"""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from functools import wraps
from typing import Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, ValidationError

from partitioner.documents import format_location, problems_of
from partitioner.errors import Problem, SpecError

_T = TypeVar("_T")


def _not_bool(value: object) -> object:
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", None) == "b":
        raise ValueError(f"a number is wanted, not {value}")
    return value


Number = BeforeValidator(_not_bool)


def raises_spec_error(cls: type[_T]) -> type[_T]:
    """Make the constructor of a pydantic dataclass raise `SpecError` in this package's words."""
    original = cls.__init__
    names = [field.name for field in dataclass_fields(cls)]  # type: ignore[arg-type]

    @wraps(original)
    def constructor(self: _T, *args: Any, **kwargs: Any) -> None:
        try:
            original(self, *args, **kwargs)
        except ValidationError as error:
            given = kwargs.get("name", args[0] if args else None)
            who = cls.__name__ + (f" {given!r}" if isinstance(given, str) else "")
            problems = []
            for message, location in problems_of(error, names):
                place = [
                    names[part] if isinstance(part, int) and i == 0 and part < len(names) else part
                    for i, part in enumerate(location)
                ]
                problems.append(Problem(f"{format_location(place)}: {message}" if place else message, field=who))
            raise SpecError(problems) from None

    cls.__init__ = constructor  # type: ignore[method-assign,assignment]
    return cls


VALUE = ConfigDict(extra="forbid", allow_inf_nan=False, str_strip_whitespace=True)
