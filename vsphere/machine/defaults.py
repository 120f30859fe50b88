"""What virtual machines are like where neither the plan nor its workloads say it. Values only, read from YAML too."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from partitioner.boundary import VALUE, Number, raises_spec_error
from partitioner.documents import Document, problems_of, read
from partitioner.errors import SpecError, did_you_mean
from vsphere.machine.mmio import Policy
from vsphere.machine.options import Options
from vsphere.machine.vm import GuestId, HardwareVersion, Latency, PciId, Text

PATTERN_FIELDS = ("plan", "workload", "replica", "host", "number")
_NUMBERS, _WIDTH = ("replica", "number"), re.compile(r"0\dd?")

PerVm = Annotated[int, Number, Field(ge=1, le=64)]
Addresses = Annotated[
    tuple[tuple[Text, tuple[PciId, ...]], ...],
    BeforeValidator(lambda value: tuple(sorted(value.items())) if isinstance(value, Mapping) else value),
    PlainSerializer(dict),
]


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class VmDefaults:
    """How `layout_vms` makes virtual machines of a plan.

    Parameters
    ----------
    name : pattern of names, of ``{plan}``, ``{workload}``, ``{replica}``, ``{host}`` and ``{number}`` (counts the machines
        of a workload from 0); ``{replica:03}`` writes three digits.
    plan : id under which the machines are ours; None takes the digest of the plan (see `plan_id`). Give one of your own where
        later plans shall change these machines rather than replace them.
    per_vm : replicas of one workload that share a machine, of all workloads or by name; only those of one host do.
    datacenter, cluster, folder, datastore, template, guest_id : see `Vm`; the cluster of a host that is known goes before, and
        its only datastore is taken where none is named.
    host : host of a plan that was made without hosts.
    network : network of the virtual adapter of a machine without a template; None for no adapter.
    vcpus, ram_gib : of each replica that does not say it; the source documents use 32 and 64 GiB.
    cores_per_socket, cores_per_numa_node, hardware_version, disk_gib, firmware, latency, rule, allow_p2p, guest, power_on : see
        `Vm`.
    mmio_policy : how address space is computed for whole GPUs; see `mmio_size_gb`.
    mmio_vgpu_gb : address space that each vGPU counts for [GB]; None counts its frame buffer by `mmio_policy`, like a GPU. The
        source documents give a machine with one vGPU of 10 to 80 GB 64.
    whole : how a whole GPU is given: ``fixed`` (by address; the hosts must be known), ``dynamic`` (any GPU of the model,
        API 7.0) or ``vgpu`` (the vGPU type that takes all of it).
    label : hardware label that dynamic devices ask for.
    series : series of vGPU types for MIG profiles that have several.
    esxi : version of ESXi whose limits hold where the hosts are not known.
    numa : whether devices ask for the NUMA node of the GPU planned (API 8.0; the hosts must be known).
    parameters : plugin parameters of each vGPU, e.g. ``{enable_uvm: 1}``.
    rdma : how workloads that ask for RDMA get a NIC beside each GPU: ``fixed`` or ``sriov``; None refuses them.
    rdma_network : network of virtual functions.
    rdma_nics : host to the addresses of the adapters for it; hosts not named take the first adapters that can.
    options : extra configuration of your own.

    Raises
    ------
    SpecError
        A value is out of range, or the pattern names something unknown.
    """

    name: Text = "gpu-{workload}-{replica}"
    plan: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")] | None = None
    per_vm: PerVm | dict[str, PerVm] = field(default=1, hash=False)
    datacenter: Text | None = None
    cluster: Text | None = None
    folder: Text | None = None
    datastore: Text | None = None
    template: Text | None = None
    guest_id: GuestId = "ubuntu64Guest"
    host: Text | None = None
    network: Text | None = "VM Network"
    vcpus: Annotated[int, Number, Field(ge=1, le=960)] = 32
    ram_gib: Annotated[float, Number, Field(gt=0, le=24_576)] = 64.0
    cores_per_socket: Annotated[int, Number, Field(ge=1, le=960)] | None = None
    cores_per_numa_node: Annotated[int, Number, Field(ge=1, le=960)] | None = None
    hardware_version: HardwareVersion | None = None
    disk_gib: Annotated[int, Number, Field(ge=0, le=63_488)] = 100
    firmware: Literal["efi", "bios"] = "efi"
    latency: Latency = "normal"
    rule: Literal["mandatory", "preferred", "none"] = "mandatory"
    allow_p2p: bool = True
    mmio_policy: Policy = "double"
    mmio_vgpu_gb: Annotated[int, Number, Field(ge=1, le=65_536)] | None = 64
    whole: Literal["fixed", "dynamic", "vgpu"] = "fixed"
    label: Text | None = None
    series: Literal["A", "B", "C", "Q"] = "C"
    esxi: Text = "8.0.3"
    numa: bool = False
    parameters: Options = ()
    rdma: Literal["fixed", "sriov"] | None = None
    rdma_network: Text | None = None
    rdma_nics: Addresses = ()
    options: Options = ()
    guest: Text | None = None
    power_on: bool = True

    @model_validator(mode="after")
    def _agrees(self) -> VmDefaults:
        try:
            asked = {name: (form, turn) for _, name, form, turn in string.Formatter().parse(self.name) if name is not None}
        except ValueError as error:
            raise ValueError(f"name {self.name!r} is no pattern: {error}; write e.g. 'gpu-{{workload}}-{{replica}}'") from None
        unknown = next((name for name in asked if name not in PATTERN_FIELDS), None)
        if unknown is not None:
            hint = did_you_mean(unknown, PATTERN_FIELDS)
            raise ValueError(f"name {self.name!r} has {{{unknown}}}; {hint or 'known: ' + ', '.join(PATTERN_FIELDS)}")
        for name, (form, turn) in asked.items():
            if turn is not None or (form and (name not in _NUMBERS or not _WIDTH.fullmatch(form))):
                raise ValueError(
                    f"name {self.name!r}: {{{name}}} cannot be written so; write {{{name}}}, numbers as {{number:03}}"
                )
        if self.rdma == "sriov" and self.rdma_network is None:
            raise ValueError("rdma 'sriov' needs rdma_network, the network of its virtual functions")
        return self

    def replicas_per_vm(self, workload: str) -> int:
        """Return how many replicas of a workload share a machine."""
        return self.per_vm if isinstance(self.per_vm, int) else self.per_vm.get(workload, 1)


_DEFAULTS = TypeAdapter(VmDefaults)


def read_defaults(source: str | os.PathLike[str] | Document | Mapping[str, object]) -> VmDefaults:
    """Read defaults: the path of a YAML or JSON file (``-``: standard input), such a file already read, or a mapping.

    Raises
    ------
    SpecError
        All problems found, each with file, line and field where there is a file.
    """
    document = source if isinstance(source, Document) else None if isinstance(source, Mapping) else read(source)
    data = document.data if document else source
    if not isinstance(data, Mapping):
        message = f"defaults of virtual machines are a mapping, not {type(data).__name__}; write e.g. {{datastore: ds1}}"
        raise SpecError(document.problem(message) if document else message)
    try:
        return _DEFAULTS.validate_python(dict(data))
    except ValidationError as error:
        found = problems_of(error, [entry.name for entry in fields(VmDefaults)])
        if document is None:
            raise SpecError("; ".join(f"{'.'.join(map(str, place))}: {message}" for message, place in found)) from None
        raise SpecError([document.problem(message, _written(place)) for message, place in found]) from None


def _written(place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the place in the file: pydantic names the branches of a union in it."""
    return tuple(part for part in place if not re.fullmatch(r"constrained-int|dict\[.*", str(part)))
