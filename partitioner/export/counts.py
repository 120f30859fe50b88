"""Writes nvidia-mig-parted's configuration file. Must not know Kubernetes or nvidia-smi.

Format: NVIDIA/mig-parted, api/spec/v1/spec.go and pkg/types (read at bd7160f4, 2026-08-21).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from partitioner import catalog
from partitioner.export.machines import Machine, Source, machines, occupants, plain
from partitioner.layout import GpuLayout

_HOSTS_NAMED = 20  # hosts named in the comment of a configuration; the rest is counted
_VENDOR = "10DE"  # NVIDIA's PCI vendor id, the second half of a device id in mig-parted's files


@dataclass(frozen=True, slots=True)
class Entry:
    """GPUs of a host that are cut alike.

    Parameters
    ----------
    model : their model.
    devices : their indices, ascending.
    enabled : whether MIG is on.
    counts : (profile, count) on each of them, largest profile first.
    """

    model: str
    devices: tuple[int, ...]
    enabled: bool
    counts: tuple[tuple[str, int], ...]

    def lines(self, *, filtered: bool) -> list[str]:
        """Return the entry as lines of YAML.

        Parameters
        ----------
        filtered : whether to name the PCI device ids that the GPUs must have.
        """
        ids = [f"0x{device_id:04X}{_VENDOR}" for device_id in catalog.gpu(self.model).pci_device_ids]
        found = [f"devices: [{', '.join(map(str, self.devices))}]", f"mig-enabled: {str(self.enabled).lower()}"]
        if filtered and ids:
            found.insert(0, f"device-filter: {json.dumps(ids)}")
        if self.enabled:
            found.append("mig-devices:" + ("" if self.counts else " {}"))
            found += [f"  {json.dumps(name)}: {count}" for name, count in self.counts]
        return [("  - " if number == 0 else "    ") + line for number, line in enumerate(found)]


@dataclass(frozen=True, slots=True)
class Selection:
    """Distinct configurations by name, and which host takes which."""

    configs: Mapping[str, tuple[Entry, ...]]
    of_host: Mapping[str | None, str]
    models: frozenset[str]


def select(every: tuple[Machine, ...]) -> Selection:
    """Return one configuration for each distinct need; hosts without anything to say take none.

    Notes
    -----
    Names are made of the content, because NVIDIA's MIG manager acts when the name on a node's label changes, not when
    the content behind a name does.
    """
    configs: dict[str, tuple[Entry, ...]] = {}
    of_host: dict[str | None, str] = {}
    for machine in every:
        entries = _entries(machine)
        if entries:
            name = "plan-" + hashlib.sha256(repr(entries).encode()).hexdigest()[:10]
            configs[name] = entries
            of_host[machine.host] = name
    models = frozenset(entry.model for entries in configs.values() for entry in entries)
    return Selection(MappingProxyType(configs), MappingProxyType(of_host), models)


def _entries(machine: Machine) -> tuple[Entry, ...]:
    alike: dict[tuple[str, bool, tuple[tuple[str, int], ...]], list[int]] = {}
    for gpu in machine.gpus:
        if gpu.mode is not None:
            alike.setdefault((gpu.model, gpu.mode == "mig", _counts(gpu)), []).append(gpu.gpu)
    return tuple(Entry(model, tuple(devices), enabled, counts) for (model, enabled, counts), devices in alike.items())


def _counts(gpu: GpuLayout) -> tuple[tuple[str, int], ...]:
    if gpu.mode != "mig":
        return ()
    order = {profile.name: -profile.extent for profile in catalog.gpu(gpu.model).geometry("mig").profiles}
    counts: dict[str, int] = {}
    for slot in sorted(gpu.slots, key=lambda slot: (order[slot.profile], slot.profile)):
        counts[slot.profile] = counts.get(slot.profile, 0) + 1
    return tuple(counts.items())


def mig_parted(source: Source, *, host: str | None = None) -> str:
    """Return the configuration file of nvidia-mig-parted for a plan: YAML with one named configuration for each need.

    Hosts that need the same share a configuration; comments name the hosts and, because the format knows counts only,
    the placements. `mig_config_names` says which host takes which. GPUs that are not used and may keep their mode are
    left out; whole GPUs have MIG off. Where several GPU models occur, entries are filtered by PCI device id.

    Parameters
    ----------
    source : a `Plan`, a `Layout`, or anything with a ``layout``.
    host : the only host wanted; None for all.

    Raises
    ------
    SpecError
        The host is not in the layout, or a GPU is in a vGPU mode.
    """
    every = machines(source, host)
    return render(every, select(every))


def mig_config_names(source: Source, *, host: str | None = None) -> Mapping[str | None, str]:
    """Return which configuration of `mig_parted` each host takes; hosts of which the plan uses no GPU take none.

    Parameters
    ----------
    source, host : see `mig_parted`.

    Raises
    ------
    SpecError
        The host is not in the layout, or a GPU is in a vGPU mode.
    """
    return select(machines(source, host)).of_host


def render(every: tuple[Machine, ...], selection: Selection, *, extra: Mapping[str, tuple[str, ...]] | None = None) -> str:
    """Return the YAML text of configurations, with comments.

    Parameters
    ----------
    every : the hosts, for comments.
    selection : what `select` found of them.
    extra : further configurations, as lines.
    """
    lines = [
        "# Written by gpu-partitioner. Counts only: nvidia-mig-parted cannot ask for a placement, the driver chooses.",
        "version: v1",
        "mig-configs:" + ("" if selection.configs or extra else " {}"),
    ]
    for name, rows in (extra or {}).items():
        lines += [f"  {name}:", *("  " + row for row in rows)]
    takers: dict[str, list[Machine]] = {}
    for machine in every:
        if machine.host in selection.of_host:
            takers.setdefault(selection.of_host[machine.host], []).append(machine)
    for name, entries in selection.configs.items():
        lines += ["", *_heading(takers[name]), f"  {name}:"]
        for entry in entries:
            lines += ["  " + line for line in entry.lines(filtered=len(selection.models) > 1)]
    unused = [machine.label for machine in every if machine.host not in selection.of_host]
    if unused:
        lines += ["", f"# Nothing to do on {plain(_named(unused))}"]
    return "\n".join(lines) + "\n"


def _heading(takers: list[Machine]) -> list[str]:
    lines = [f"  # For {plain(_named([machine.label for machine in takers]))}"]
    for machine in takers[:_HOSTS_NAMED]:
        for gpu in machine.gpus:
            whom = plain(f"{machine.host}/gpu{gpu.gpu}" if machine.host is not None else f"gpu{gpu.gpu}")
            mode = "not in use, left as it is" if gpu.mode is None else f"{gpu.mode}: {occupants(gpu)}"
            lines.append(f"  #   {whom} ({gpu.model}) {mode}")
    return lines


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _HOSTS_NAMED} more" if len(names) > _HOSTS_NAMED else ""
    return ", ".join(names[:_HOSTS_NAMED]) + more
