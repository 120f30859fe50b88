"""Kinds of fields that the values of this package share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from partitioner.boundary import Number


def _pairs(value: object) -> object:
    """Take a mapping as pairs by key; values may be written as numbers or truth values, which YAML makes of them."""
    if isinstance(value, Mapping):
        value = [(key, _written(text)) for key, text in sorted(value.items(), key=str)]
    return value


def _written(value: object) -> object:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return str(value) if isinstance(value, int | float) else value


def _power(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"{value} is no power of two; write e.g. {1 << value.bit_length()}")
    return value


Key = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\s=\"]+$")]
Value = Annotated[str, Field(max_length=65_536)]
Options = Annotated[tuple[tuple[Key, Value], ...], BeforeValidator(_pairs), PlainSerializer(dict)]
"""Keys and values, by key; a mapping in files."""
PowerOfTwo = Annotated[int, Number, Field(ge=2, le=1 << 20), AfterValidator(_power)]
