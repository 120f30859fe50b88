"""Which NVIDIA software the hosts of an inventory have: VIBs and driver versions. Must not know plans."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyVmomi import vim, vmodl

from vsphere.errors import words
from vsphere.hosts import smi
from vsphere.hosts.errors import ShellError
from vsphere.hosts.live import host_object
from vsphere.hosts.smi import HostFacts, Vib
from vsphere.hosts.ssh import Shell, SshAccess
from vsphere.values import HostInfo

if TYPE_CHECKING:
    from vsphere.session import Session

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Software:
    """NVIDIA's software on a host.

    Parameters
    ----------
    host : its name.
    vibs : NVIDIA's VIBs; None where neither shell nor vCenter said.
    driver : version of the driver; None where the shell was not asked, or the driver sees no GPU.
    problem : why something is not known; empty where all is.
    """

    host: str
    vibs: tuple[Vib, ...] | None
    driver: str | None = None
    problem: str = ""

    def __str__(self) -> str:
        if self.vibs is None:
            return f"{self.host}: NVIDIA software unknown: {self.problem}"
        named = ", ".join(f"{vib.name} {vib.version}" for vib in self.vibs) or "no NVIDIA VIB"
        text = f"{self.host}: {named}" + (f"; driver {self.driver}" if self.driver else "")
        return text + (f" ({self.problem})" if self.problem else "")


def read_shells(access: SshAccess, hosts: Iterable[str]) -> tuple[dict[str, HostFacts], dict[str, ShellError]]:
    """Ask the shells of hosts, some at a time.

    Returns
    -------
    What they say, and the errors of those that could not be asked, both by host.

    Raises
    ------
    SpecError
        A name cannot be used.
    """
    shells = [access.shell(host) for host in sorted(set(hosts))]
    facts: dict[str, HostFacts] = {}
    errors: dict[str, ShellError] = {}

    def ask(shell: Shell) -> None:
        try:
            facts[shell.host] = smi.read_facts(shell)
        except ShellError as error:
            errors[shell.host] = error

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        list(pool.map(ask, shells))
    return dict(sorted(facts.items())), dict(sorted(errors.items()))


def read_software(
    hosts: Iterable[HostInfo], *, session: Session | None = None, facts: dict[str, HostFacts] | None = None
) -> tuple[Software, ...]:
    """Return the NVIDIA software of hosts: from their shells where those were asked, else from vCenter.

    Parameters
    ----------
    hosts : the hosts.
    session : of their vCenter, which knows VIBs but no driver versions; None asks it nothing.
    facts : what the shells said, by host.
    """
    return tuple(_software(host, session, (facts or {}).get(host.name)) for host in hosts)


def _software(host: HostInfo, session: Session | None, facts: HostFacts | None) -> Software:
    if facts is not None:
        return Software(host.name, facts.vibs, facts.driver, "" if facts.driver else "its driver sees no GPU")
    if session is None:
        return Software(host.name, None, None, "neither its shell nor vCenter was asked")
    if not host.connected:
        return Software(host.name, None, None, "it is not connected")
    try:
        manager = host_object(session, host.moid).configManager.imageConfigManager
        packages = manager.FetchSoftwarePackages() if manager else None
    except (vmodl.MethodFault, vim.fault.VimFault) as fault:
        return Software(host.name, None, None, f"vCenter does not say: {words(fault)}")
    if packages is None:
        return Software(host.name, None, None, "vCenter does not say")
    vibs = smi.nvidia_vibs(Vib(package.name, package.version, package.vendor) for package in packages)
    return Software(host.name, vibs, None, "driver version takes its shell")
