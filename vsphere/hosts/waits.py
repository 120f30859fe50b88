"""Maintenance mode, restarts, and waiting until a host is back. Must not know plans, GPU settings or shells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from partitioner.errors import InUseError
from vsphere.errors import ConnectError, translated
from vsphere.hosts.errors import WaitError
from vsphere.hosts.evacuation import is_agent
from vsphere.hosts.live import HostNow, host_object, read_host
from vsphere.tasks import Job, carry_out

if TYPE_CHECKING:
    from vsphere.session import Session


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait.

    Parameters
    ----------
    maintenance_s : for a host to enter or exit maintenance mode [s].
    reboot_s : for a host to come back after a restart, with its GPUs [s].
    settle_s : for a setting to take effect after the driver's services were restarted, and for a shell after a restart [s].
    poll_s : between two looks [s].
    jitter_s : by so much a host's boot time may differ from one look to the next without a restart [s]: it is computed.
    """

    maintenance_s: float = 900.0
    reboot_s: float = 2700.0
    settle_s: float = 120.0
    poll_s: float = 5.0
    jitter_s: float = 30.0


def enter_maintenance(session: Session, moid: str, now: HostNow, *, migrate: bool, limits: Limits) -> None:
    """Put a host into maintenance mode.

    Parameters
    ----------
    session : of its vCenter.
    moid, now : the host.
    migrate : vCenter may move the VMs that run on it.
    limits : how long to wait.

    Raises
    ------
    InUseError
        VMs run on it; nothing was begun.
    VSphereError
        vCenter refused, or could not empty it in time.
    """
    left = [(vm, name) for vm, name in now.running if not is_agent(name)]
    if left and not migrate:
        named = ", ".join(f"{name!r} ({vm})" for vm, name in left)
        raise InUseError(f"{now.name}: must be empty, and {named} run on it; have their owners move them or power them off")
    host = host_object(session, moid)
    what = f"host {now.name!r}, entering maintenance mode"
    seconds = int(limits.maintenance_s)
    _carry_out(
        session,
        what,
        lambda: host.EnterMaintenanceMode_Task(timeout=seconds, evacuatePoweredOffVms=False),
        timeout_s=seconds + limits.settle_s,
    )


def exit_maintenance(session: Session, moid: str, now: HostNow, *, limits: Limits) -> None:
    """Take a host out of maintenance mode.

    Raises
    ------
    VSphereError
        vCenter refused.
    """
    host = host_object(session, moid)
    what = f"host {now.name!r}, exiting maintenance mode"
    seconds = int(limits.maintenance_s)
    _carry_out(session, what, lambda: host.ExitMaintenanceMode_Task(timeout=seconds), timeout_s=seconds + limits.settle_s)


def reboot(session: Session, moid: str, now: HostNow, pci_ids: Iterable[str], *, limits: Limits) -> None:
    """Restart a host that is in maintenance mode and empty, and wait until it is back with its GPUs.

    Parameters
    ----------
    session : of its vCenter.
    moid, now : the host, as it is before.
    pci_ids : the GPUs that must be there again.
    limits : how long to wait.

    Raises
    ------
    InUseError
        It is not in maintenance mode, or VMs run on it; nothing was begun.
    WaitError
        It did not come back in time, or without a GPU.
    VSphereError
        vCenter refused.
    """
    left = [name for _, name in now.running if not is_agent(name)]
    if not now.in_maintenance or left:
        state = f"VMs {', '.join(map(repr, left))} run on it" if left else "it is not in maintenance mode"
        raise InUseError(f"{now.name}: is not restarted: {state}; plan anew")
    host = host_object(session, moid)
    what = f"host {now.name!r}, restarting it"
    _carry_out(session, what, lambda: host.RebootHost_Task(force=False), timeout_s=limits.reboot_s)
    wanted, tried, gone = tuple(pci_ids), [False], [False]

    def back() -> str | None:
        """Return what is still missing, None when all is there."""
        found = read_host(session, moid, now.name)
        gone[0] = gone[0] or not found.connected or _restarted(now, found, limits.jitter_s)
        if not gone[0]:
            return "it has not gone down yet"
        if found.connection == "disconnected" and not tried[0]:
            tried[0] = True  # vCenter does that by itself for a host that does not respond, not for this state
            with translated(f"{session.who}: host {now.name!r}", "reconnecting it"):
                host.ReconnectHost_Task(cnxSpec=None, reconnectSpec=None)
        if not found.connected:
            return f"it is {found.connection}"
        missing = [pci_id for pci_id in wanted if not found.has(pci_id)]
        return f"GPUs at {', '.join(missing)} are not there" if missing else None

    wait_until(back, f"host {now.name!r} after its restart", timeout_s=limits.reboot_s, limits=limits)


def _restarted(before: HostNow, after: HostNow, jitter_s: float) -> bool:
    if before.boot_time is None or after.boot_time is None:
        return False
    return abs((after.boot_time - before.boot_time).total_seconds()) > jitter_s


def wait_until(missing: Callable[[], str | None], what: str, *, timeout_s: float, limits: Limits) -> None:
    """Look again and again until nothing is missing; a vCenter that cannot be reached meanwhile is asked again.

    Parameters
    ----------
    missing : says what is still missing, None when all is there.
    what : what is waited for, for messages.
    timeout_s : longest wait [s].
    limits : how often to look.

    Raises
    ------
    WaitError
        Something is still missing after that time.
    """
    end = time.monotonic() + timeout_s
    while True:
        cause: ConnectError | None = None
        try:
            lacking = missing()
        except ConnectError as error:
            lacking, cause = str(error), error
        if lacking is None:
            return
        if time.monotonic() >= end:
            raise WaitError(f"{what}: after {timeout_s:g} s {lacking}; look at its console, then run it again") from cause
        time.sleep(limits.poll_s)


def _carry_out(session: Session, what: str, begin: Callable[[], Any], *, timeout_s: float) -> None:
    """Begin a task and wait until it has ended."""
    (outcome,) = carry_out(session, [Job(what, begin)], timeout_s=timeout_s)
    if outcome.error is not None:
        raise outcome.error
