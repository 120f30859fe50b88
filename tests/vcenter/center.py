"""The extended vCenter: what vCenter has and the simulator lacks, and ways to disturb it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from vcenter.inventory import Host, Vm, models
from vcenter.process import Certificate, Server


@dataclass(frozen=True, slots=True)
class Call:
    """A SOAP call: vim's method name, managed object id, ``ok`` or what went wrong.

    `begin_ms` is its begin since the server's start, `ms` the time that it took there, with delays.
    """

    method: str
    object: str
    outcome: str
    begin_ms: float
    ms: float


@dataclass(frozen=True, slots=True)
class Used:
    """A vGPU, or the whole GPU (`type` empty), in the hands of a running VM.

    `shape` is the GPU instance profile, or the frame buffer in mixed-size mode; `start` is -1 where there are no places.
    """

    vm: str
    type: str
    shape: str
    start: int


@dataclass(frozen=True, slots=True)
class Card:
    """A physical GPU as the server sees it now."""

    pci_id: str
    model: str
    mode: str
    uses: tuple[Used, ...]


class VCenter(Server):
    """A vCenter with GPUs.

    Parameters
    ----------
    hosts, vms : what is there; the VMs are made and powered on in order, by the server's rules.

    Examples
    --------
    ``with VCenter(hosts=[Host("esx-01", gpus=["A100-80GB"])]) as center:``
    """

    def __init__(
        self,
        hosts: Iterable[Host] = (),
        vms: Iterable[Vm] = (),
        *,
        user: str = "administrator@vsphere.local",
        password: str = "P4ss&<word>",  # noqa: S107 -- of a server that lives as long as a test
        api_version: str = "8.0.3.0",
        certificate: Certificate = "good",
    ) -> None:
        super().__init__(user=user, password=password, api_version=api_version, certificate=certificate)
        listed = list(hosts)
        self._settings["inventory"] = {
            "models": models(listed),
            "hosts": [host.to_json() for host in listed],
            "vms": [vm.to_json() for vm in vms],
        }

    @property
    def control_url(self) -> str:
        """Address of the control port."""
        return f"http://127.0.0.1:{self.control_port}"

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"{path}: {text.strip()}")
        return json.loads(text)

    def _do(self, verb: str, **body: Any) -> Any:
        return self._ask("POST", f"/{verb}", body)

    # -- looking ---------------------------------------------------------------------------------------------------

    def calls(self) -> tuple[Call, ...]:
        """Return the SOAP calls since the start or `clear_calls`, in the order in which they ended."""
        return tuple(Call(**call) for call in self._ask("GET", "/calls") or ())

    def count(self, method: str) -> int:
        """Return how many calls of a method there were."""
        return sum(call.method == method for call in self.calls())

    @property
    def round_trips(self) -> int:
        """Number of SOAP calls since the start or `clear_calls`."""
        return len(self.calls())

    def clear_calls(self) -> None:
        """Forget all calls."""
        self._do("clear_calls")

    def gpus(self, host: str) -> tuple[Card, ...]:
        """Return the GPUs of a host and who uses them."""
        return tuple(
            Card(
                card["pci_id"],
                card["model"],
                card["mode"],
                tuple(Used(use["name"], use["type"], use["shape"], use["start"]) for use in card["uses"]),
            )
            for card in self._ask("GET", f"/gpus?host={quote(host)}")
        )

    # -- disturbing ------------------------------------------------------------------------------------------------

    def fail(
        self,
        method: str,
        fault: str = "vmodl.fault.SystemError",
        *,
        at: int = 1,
        times: int = 1,
        of: Literal["call", "task"] = "call",
        message: str = "",
        fields: dict[str, Any] | None = None,
    ) -> None:
        """Let calls of a method fail.

        Parameters
        ----------
        method : vim's name, e.g. ``CreateVM_Task``; ``*`` for any.
        fault : e.g. ``vim.fault.NoDiskSpace``.
        at : strike at the n-th call from now on.
        times : strike so often; 0 for ever.
        of : refuse the ``call``, or let it return a ``task`` that ends with the fault; nothing is done in both cases.
        message : the fault's message.
        fields : fields of the fault.
        """
        body: dict[str, Any] = {"method": method, "what": of, "fault": fault, "at": at, "times": times, "message": message}
        self._do("fault", **body, **({"fields": fields} if fields else {}))

    def drop(self, method: str, *, when: Literal["before", "after"] = "before", at: int = 1, times: int = 1) -> None:
        """Break the connection at calls of a method, before they have their effect or after it."""
        self._do("fault", method=method, what=f"drop {when}", at=at, times=times)

    def clear_faults(self) -> None:
        """Take away all that `fail` and `drop` set."""
        self._do("clear_faults")

    def delay_ms(self, ms: int, *, method: str = "*") -> None:
        """Let each call, or each call of a method, take so much longer."""
        self._do("delay", ms=ms, method=method)

    def task_delay_ms(self, ms: int) -> None:
        """Let each task run so much longer."""
        self._do("task_delay", ms=ms)

    def expire_sessions(self) -> None:
        """End all sessions."""
        self._do("expire_sessions")

    def restart(self, *, down_s: float = 0.2) -> None:
        """Restart: sessions are gone, and for so long connections break."""
        self._do("restart", ms=round(down_s * 1000))

    def deny(self, *privileges: str) -> None:
        """Let privileges be missing in HasPrivilegeOnEntities, for everybody and on everything."""
        self._do("deny", privileges=list(privileges))

    def disconnect_host(self, name: str) -> None:
        """Let a host not respond."""
        self._do("disconnect_host", host=name)

    def reconnect_host(self, name: str) -> None:
        """Let it respond again."""
        self._do("reconnect_host", host=name)

    def set_maintenance(self, name: str, on: bool = True) -> None:  # noqa: FBT001, FBT002 -- reads as it is said
        """Put a host into maintenance mode whatever runs there, or take it out."""
        self._do("maintenance", host=name, on=on)

    def reboot_host(self, name: str) -> None:
        """Let a host crash and boot."""
        self._do("reboot_host", host=name)

    def set_mig(self, host: str, gpu: int, on: bool) -> str:  # noqa: FBT001 -- reads as it is said
        """Do what ``nvidia-smi -i GPU -mig 1|0`` does.

        Returns ``on``, ``off``, ``pending on``, ``pending off`` or ``not supported``.
        """
        return str(self._do("set_mig", host=host, gpu=gpu, on=on))

    def fill_datastore(self, name: str, *, full: bool = True) -> None:
        """Let nothing more be put on a datastore."""
        self._do("fill_datastore", name=name, on=full)

    def create_vm(self, vm: Vm) -> None:
        """Let somebody else make a VM."""
        self._do("create_vm", vm=vm.to_json())

    def delete_vm(self, name: str) -> None:
        """Let somebody else power a VM off and delete it."""
        self._do("delete_vm", name=name)

    def power_off(self, name: str) -> None:
        """Let somebody else power a VM off."""
        self._do("power_off", name=name)

    def rename_vm(self, name: str, to: str) -> None:
        """Let somebody else rename a VM."""
        self._do("rename_vm", name=name, to=to)

    def touch_vm(self, name: str) -> None:
        """Let somebody else change something about a VM that matters to nobody; its changeVersion changes."""
        self._do("touch_vm", name=name)
