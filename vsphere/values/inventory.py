"""All that a vCenter has at one moment, and what that means to a planner. Values only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from partitioner.boundary import raises_spec_error
from vsphere.values.host import HostInfo
from vsphere.values.machine import Mark, VmInfo
from vsphere.values.terms import VALUE, Gib, Name, Options, Text

if TYPE_CHECKING:
    from partitioner.fleet import Fleet
    from partitioner.layout import Layout


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class GroupInfo:
    """A group of a cluster, of hosts or of VMs: its name and the ids of its members."""

    name: Name
    hosts: tuple[Name, ...] = ()
    vms: tuple[Name, ...] = ()


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class RuleInfo:
    """A DRS rule of a cluster.

    Parameters
    ----------
    name, key : its name and key.
    kind : ``vm-host``, ``affinity``, ``anti-affinity`` or another, as vCenter's type says.
    enabled, mandatory : whether it holds, and whether DRS may never break it.
    vm_group, host_group : groups of a rule between VMs and hosts.
    hosts_excluded : whether the VMs must keep off the hosts, not on them.
    vms : ids of the VMs of a rule among VMs.
    """

    name: Name
    key: int
    kind: Name
    enabled: bool = True
    mandatory: bool = False
    vm_group: Name | None = None
    host_group: Name | None = None
    hosts_excluded: bool = False
    vms: tuple[Name, ...] = ()


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class ClusterInfo:
    """A cluster: its DRS settings, groups and rules.

    Parameters
    ----------
    drs : automation level (``manual``, ``partiallyAutomated``, ``fullyAutomated``); None where DRS is off.
    """

    name: Name
    moid: Name
    drs: Name | None = None
    groups: tuple[GroupInfo, ...] = ()
    rules: tuple[RuleInfo, ...] = ()


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class DatastoreInfo:
    """A datastore, with its size [GiB]."""

    name: Name
    moid: Name
    kind: Text = ""
    capacity_gib: Gib = 0.0
    free_gib: Gib = 0.0
    accessible: bool = True


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class NetworkInfo:
    """A network or a port group of a distributed switch; `switch_uuid` and `portgroup_key` are of the latter."""

    name: Name
    moid: Name
    switch_uuid: Text = ""
    portgroup_key: Text = ""


@raises_spec_error
@dataclass(frozen=True, config=VALUE)
class Inventory:
    """What a vCenter has, at one moment.

    Parameters
    ----------
    vcenter : its name, as it was connected to.
    api_version : version that was negotiated; what is newer than it was not seen.
    hosts, vms, clusters, datastores, networks : all that the account may see, by name.
    folders : paths of the folders of VMs to their ids.
    read_at : when [UTC, ISO 8601].
    version : of the vCenter, for people.

    Raises
    ------
    SpecError
        A number is out of range, or an id stands twice.
    """

    vcenter: Name
    api_version: Name
    hosts: tuple[HostInfo, ...] = ()
    vms: tuple[VmInfo, ...] = ()
    clusters: tuple[ClusterInfo, ...] = ()
    datastores: tuple[DatastoreInfo, ...] = ()
    networks: tuple[NetworkInfo, ...] = ()
    folders: Options = ()
    read_at: Text = ""
    version: Text = ""

    @model_validator(mode="after")
    def _unique(self) -> Inventory:
        for what, keys in (
            ("host", [host.name for host in self.hosts]),
            ("host id", [host.moid for host in self.hosts]),
            ("VM id", [vm.moid for vm in self.vms]),
        ):
            if len(set(keys)) < len(keys):
                twice = next(key for number, key in enumerate(keys) if key in keys[:number])
                raise ValueError(f"{what} {twice!r} stands twice; each stands once")
        return self

    @cached_property
    def host(self) -> Mapping[str, HostInfo]:
        """Hosts by name."""
        return {host.name: host for host in self.hosts}

    @cached_property
    def vm(self) -> Mapping[str, VmInfo]:
        """VMs by vCenter's id."""
        return {vm.moid: vm for vm in self.vms}

    def ours(self) -> Iterator[tuple[VmInfo, Mark]]:
        """Iterate over the VMs that carry our mark, with it."""
        for vm in self.vms:
            mark = vm.mark
            if mark is not None:
                yield vm, mark

    def fleet(self, *, keep_modes: bool = True) -> Fleet:
        """Return the hosts that can take VMs now and their GPUs, VMs of others as occupied space; see `occupancy.fleet`.

        Raises
        ------
        SpecError
            No host that can be used has a GPU.
        """
        from vsphere.occupancy import fleet

        return fleet(self, keep_modes=keep_modes)

    def layout(self) -> Layout:
        """Return what is on each GPU of `fleet`, our VMs as occupants; see `occupancy.layout`."""
        from vsphere.occupancy import layout

        return layout(self)
