"""Kinds of fields that the inventory's values share. Must not know what the values are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer

from partitioner.boundary import Number

VALUE = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Names are kept as vCenter has them, blanks at their ends included."""

PREFIX = "gpu-partitioner."
"""How the keys begin under which a VM's extra configuration says that it is ours."""


def _pairs(value: object) -> object:
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value


Text = Annotated[str, Field(max_length=65_536)]
Name = Annotated[str, Field(min_length=1, max_length=1024)]
Count = Annotated[int, Number, Field(ge=0, le=2**53)]
Gib = Annotated[float, Number, Field(ge=0, le=2**40)]
Options = Annotated[tuple[tuple[Name, Text], ...], BeforeValidator(_pairs), PlainSerializer(dict)]
"""Keys and values, sorted by key; a mapping in files."""
PciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")]
"""PCI address as ESXi writes it: ``0000:3b:00.0``."""
Mode = Literal["mig", "vgpu-equal", "vgpu-mixed", "whole"]
DeviceKind = Literal["vgpu", "fixed", "dynamic", "dvx", "sriov"]
