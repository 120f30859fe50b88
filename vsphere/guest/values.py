"""What shall be installed in guests and run there. Values only, read from YAML too; secrets are named by file, never held."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from partitioner.boundary import VALUE, Number, raises_spec_error
from partitioner.documents import problems_of, read
from partitioner.errors import SpecError

PACKAGES = ("build-essential", "cmake", "curl", "docker.io")
"""What the source documents install in a guest, by the names of Debian and Ubuntu."""

Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
Path = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._+/@-]{0,1023}$")]
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]{0,99}(?:=[A-Za-z0-9.+:~-]{1,99})?$")]
Port = Annotated[int, Number, Field(ge=1, le=65_535)]
_URL = re.compile(r"^https://[A-Za-z0-9.-]+(?::\d{1,5})?/[A-Za-z0-9._~%+/@=?&,-]*$")


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Triton:
    """NVIDIA Triton Inference Server as a container that starts with the machine.

    Parameters
    ----------
    image : container image, e.g. ``nvcr.io/nvidia/tritonserver:25.09-py3``; the release decides what models need.
    models : folder of the model repository in the guest.
    http_port, grpc_port, metrics_port : where it listens.
    arguments : more arguments of ``tritonserver``.
    """

    image: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,255}$")]
    models: Path = "/srv/models"
    http_port: Port = 8000
    grpc_port: Port = 8001
    metrics_port: Port = 8002
    arguments: tuple[Annotated[str, Field(pattern=r"^--[A-Za-z0-9=._:/,-]{1,200}$")], ...] = ()


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Nic:
    """How the first network adapter of one machine is configured; without an address by DHCP.

    Parameters
    ----------
    address : with its prefix: ``10.0.0.5/24``.
    gateway : default gateway.
    nameservers : of the resolver.
    """

    address: str | None = None
    gateway: str | None = None
    nameservers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _are_addresses(self) -> Nic:
        if self.address is not None:
            if "/" not in self.address:
                raise ValueError(f"address {self.address!r} has no prefix; write e.g. '10.0.0.5/24'")
            ipaddress.ip_interface(self.address)
        elif self.gateway is not None:
            raise ValueError(f"gateway {self.gateway!r} without an address; give both, or none for DHCP")
        for one in filter(None, (self.gateway, *self.nameservers)):
            ipaddress.ip_address(one)
        return self


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Guest:
    """What is installed in a guest and runs there.

    Parameters
    ----------
    packages : of the distribution (Debian, Ubuntu).
    driver : NVIDIA's GRID driver for guests, as you got it from NVIDIA's licensing portal: a URL (``https``) or the path of a
        file in the template, ``.run`` or ``.deb``; None where the template has it installed. Its branch must be that of the
        host's driver, or the one before.
    driver_sha256 : its checksum; a URL needs it.
    feature_type : ``FeatureType`` of ``gridd.conf``: 0 none, 1 vGPU, 2 virtual workstation, 4 compute.
    token_file : file with the client configuration token, on the machine where this runs. It is read when guestinfo is made,
        and is in no plan, log or repr.
    container_toolkit : whether NVIDIA's container toolkit is installed and given to Docker.
    triton : the inference server; None for none.
    ssh_keys : public keys that may log in as the distribution's user.
    network : machine's name to its adapter; others use DHCP.
    check : whether the machine looks at its GPUs when it starts and reports by guestinfo.

    Raises
    ------
    SpecError
        A value has another form, or two contradict each other.
    """

    packages: tuple[Package, ...] = PACKAGES
    driver: Text | None = None
    driver_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    feature_type: Literal[0, 1, 2, 4] = 1
    token_file: Text | None = None
    container_toolkit: bool = True
    triton: Triton | None = None
    ssh_keys: tuple[Text, ...] = ()
    network: dict[str, Nic] = field(default_factory=dict, hash=False)
    check: bool = True

    @field_validator("driver")
    @classmethod
    def _is_driver(cls, value: str | None) -> str | None:
        if value is None:
            return value
        if not (_URL.match(value) or re.match(r"^/[A-Za-z0-9._+/@-]+$", value)):
            raise ValueError(f"driver {value!r} is neither an https URL nor the absolute path of a file in the guest")
        if not value.partition("?")[0].endswith((".run", ".deb")):
            raise ValueError(f"driver {value!r} is neither a .run nor a .deb; give NVIDIA's package for Linux guests")
        return value

    @model_validator(mode="after")
    def _agrees(self) -> Guest:
        if self.driver is not None and self.driver.startswith("https:") and self.driver_sha256 is None:
            raise ValueError("driver is a URL, so driver_sha256 is needed; take it with sha256sum from the package you trust")
        if (self.triton is not None or self.container_toolkit) and not any(p.startswith("docker") for p in self.packages):
            what = "triton" if self.triton is not None else "container_toolkit"
            raise ValueError(f"{what} needs Docker, but packages has none; add docker.io")
        if self.triton is not None and not self.container_toolkit:
            raise ValueError("triton needs GPUs in containers, but container_toolkit is false")
        return self


_GUEST = TypeAdapter(Guest)
_FIELDS = sorted({entry.name for kind in (Guest, Triton, Nic) for entry in fields(kind)})


def load_guest(path: str | os.PathLike[str]) -> Guest:
    """Return what a YAML or JSON file says of guests.

    Raises
    ------
    SpecError
        All problems found, each with file, line and field.
    """
    document = read(path)
    if not isinstance(document.data, Mapping):
        raise SpecError(document.problem("a guest is a mapping; write e.g. {driver: /opt/nvidia/driver.run}"))
    try:
        return _GUEST.validate_python(document.data)
    except ValidationError as error:
        raise SpecError([document.problem(message, place) for message, place in problems_of(error, _FIELDS)]) from None
