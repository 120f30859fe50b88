"""Writes the nvidia-smi commands that make a plan's instances. Must not know systemd, Kubernetes or mig-parted.

Syntax: NVIDIA Multi-Instance GPU user guide, "Creating GPU Instances", and the help of ``nvidia-smi mig``: a GPU instance
is asked for by profile id or name, optionally with a colon and the first slice of its placement.
"""

from __future__ import annotations

import shlex

from partitioner import catalog
from partitioner.errors import SpecError
from partitioner.export.machines import Machine, Source, checked_uuid, machines, occupants, plain, profiles
from partitioner.layout import GpuLayout, gpu_label

_PREFACE = """\
#!/bin/sh
# Written by gpu-partitioner; run as root. The GPUs must hold no GPU instances: to change GPUs that do, use
# `partitioner diff` and `partitioner apply`. Where nvidia-smi says that a mode is pending, stop what uses the GPU,
# `nvidia-smi --gpu-reset -i GPU` or reboot, and run this again.
set -eu
"""
_USAGE = """\
usage() {
    echo "give the name of this host as it stands in this file ('' for one without a name)" >&2
    exit 2
}
[ $# -eq 1 ] || usage"""


def nvidia_smi(source: Source, *, host: str | None = None) -> str:
    """Return the nvidia-smi commands that give exactly the planned placements, as a POSIX shell script.

    Of a layout with several hosts the script takes the name of the host that it runs on as its argument, so that one file
    serves all and none runs what is meant for another. A GPU is named by its UUID where the layout has it, else by its
    index. GPUs that are not used and may keep their mode are only mentioned.

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
    if len(every) == 1:
        return "\n".join([f"{_PREFACE}\n# Host: {plain(every[0].label)}", *_commands(every[0])]) + "\n"
    named = [_argument(machine) for machine in every]
    if len(set(named)) < len(named):
        raise SpecError("the layout has a host without a name and one with an empty name; export them one at a time")
    lines = [_PREFACE, f"# Argument: the name of this host, one of {len(every)}", _USAGE, 'case "$1" in']
    for machine, name in zip(every, named, strict=True):
        lines += [f"{name})", *(f"    {line}" if line else "" for line in _commands(machine)), "    ;;"]
    lines += ["*)", "    usage", "    ;;", "esac"]
    return "\n".join(lines) + "\n"


def _argument(machine: Machine) -> str:
    """Return the pattern that matches the host's name, which is empty where it has none."""
    name = machine.host or ""
    if "\0" in name:
        raise SpecError(f"host {name!r}: a name with a NUL character cannot be an argument of a script")
    quoted = name.replace("'", "'\"'\"'")
    return f"'{quoted}'"  # always in quotes: a bare esac would end the case


def _commands(machine: Machine) -> list[str]:
    """Return the commands of one host, modes first."""
    modes, instances = [], []
    for gpu in machine.gpus:
        label = plain(gpu_label(machine.host, gpu.gpu))
        if gpu.mode is None:
            modes.append(f"# {label} ({gpu.model}): not in use, left as it is")
        elif "mig" in catalog.gpu(gpu.model).modes:
            modes.append(f"nvidia-smi -i {gpu_argument(gpu)} -mig {int(gpu.mode == 'mig')}")
        if gpu.mode == "whole":
            modes.append(f"# {label} ({gpu.model}) whole: {occupants(gpu)}")
        if gpu.mode == "mig" and gpu.slots:
            instances.append(f"# {label} ({gpu.model}): {occupants(gpu)}")
            instances.append(f"nvidia-smi mig -i {gpu_argument(gpu)} -cgi {','.join(specifiers(gpu))} -C")
    return [*modes, *instances] or [":  # nothing to do"]


def gpu_argument(gpu: GpuLayout) -> str:
    """Return what stands after ``-i`` for a GPU: its UUID where it is known, else its index.

    Raises
    ------
    SpecError
        The layout's UUID is none.
    """
    if gpu.uuid is None:
        return str(gpu.gpu)
    return checked_uuid(gpu.uuid, gpu_label(gpu.host, gpu.gpu))


def specifiers(gpu: GpuLayout) -> list[str]:
    """Return what ``-cgi`` takes for each placement of a GPU, by start: ``9:4``; a name where no driver's id is known.

    Ids of profiles stay when drivers rename profiles (7g.79gb, 7g.80gb); see rule 10 of the geometry facts.
    """
    found = []
    for profile, start in profiles(gpu):
        which = profile.name if profile.gi_profile_id is None else str(profile.gi_profile_id)
        found.append(shlex.quote(f"{which}:{start}"))
    return found
