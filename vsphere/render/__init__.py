"""The same virtual machines for people who stay with their tool: a govc script, an Ansible play, a PowerCLI script.

Text only, made from the same values that `to_config_spec` is made from. What a tool cannot do is refused, never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsphere.machine.vm import Vm
    from vsphere.values import HostInfo, NetworkInfo

TOOLS = ("govc", "ansible", "powercli")

__all__ = ["TOOLS", "ansible", "govc", "powercli"]


def govc(vms: Iterable[Vm]) -> str:
    """Return a Bash script that makes the machines with govc; see `vsphere.render.govc_script`.

    Raises
    ------
    SpecError
        govc cannot do what a machine needs.
    """
    from vsphere.render.govc_script import script

    return script(tuple(vms))


def ansible(vms: Iterable[Vm]) -> str:
    """Return a play that makes the machines with the collection community.vmware; see `vsphere.render.ansible_play`.

    Raises
    ------
    SpecError
        The collection cannot do what a machine needs.
    """
    from vsphere.render.ansible_play import play

    return play(tuple(vms))


def powercli(vms: Iterable[Vm], *, hosts: Mapping[str, HostInfo] | None = None, networks: Iterable[NetworkInfo] = ()) -> str:
    """Return a PowerCLI script that makes the machines from the very specifications that we send; see `powercli_script`.

    Parameters
    ----------
    vms : the machines.
    hosts : hosts by name, needed where devices are given by address.
    networks : networks of the inventory, needed for port groups of distributed switches.

    Raises
    ------
    SpecError
        A specification cannot be built; see `to_config_spec`.
    """
    from vsphere.render.powercli_script import script

    return script(tuple(vms), hosts or {}, tuple(networks))
