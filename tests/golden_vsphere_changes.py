"""Golden cases of `vsphere.diff`: what a vCenter has, the machines that shall be, and the steps, or the error.

A case is a JSON file in tests/golden/vsphere_changes. ``python tests/golden_vsphere_changes.py NAME ...`` writes the outcome of
today into cases, to be read by a person before it is committed; without names it only says which cases differ.

Machines are written as ``"NAME HOST PLAN/WORKLOAD/REPLICA TYPE[=GPU:PROFILE@START] ... KEY=VALUE ..."``; of those that are there
the mark ``-`` means that they are somebody else's, and the words ``off`` and ``suspended`` that they are so.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from partitioner.errors import PartitionerError
from vsphere.changes import VmChanges, diff
from vsphere.machine.identity import instance_uuid
from vsphere.machine.vm import Device, Vm
from vsphere.values import ClusterInfo, GpuInfo, GroupInfo, HostInfo, Inventory, Place, RuleInfo, VmDevice, VmInfo

FOLDER = Path(__file__).parent / "golden" / "vsphere_changes"
TYPES = ("grid_a100d-1-10c", "grid_a100d-2-20c", "grid_a100d-3-40c", "grid_a100d-4-40c", "grid_a100d-7-80c")
_DEVICE = re.compile(r"(?P<type>grid_[^=]+)(?:=(?P<gpu>\d+):(?P<profile>[^@]+)@(?P<start>\d+))?")
_NUMBERS = {"vcpus", "cores_per_socket", "mmio_size_gb"}


@dataclass(frozen=True)
class Case:
    name: str
    data: dict[str, Any]

    @property
    def current(self) -> Inventory:
        return inventory(self.data["hosts"], self.data.get("there", ()), self.data.get("drs"), self.data.get("groups"))

    @property
    def goal(self) -> tuple[Vm, ...]:
        clusters = "cluster-1" if self.data.get("drs") else None
        return tuple(replace(machine(text), cluster=clusters) for text in self.data["goal"])

    def changes(self) -> VmChanges:
        return diff(self.current, self.goal, hosts=self.data.get("area"))

    def outcome(self) -> dict[str, Any]:
        try:
            changes = self.changes()
        except PartitionerError as error:
            return {"error": f"{type(error).__name__}: {error}".splitlines()}
        return {"steps": str(changes).splitlines()}

    @property
    def expected(self) -> dict[str, Any]:
        return {key: value for key, value in self.data.items() if key in ("steps", "error")}


def inventory(hosts: dict[str, str], there: Any = (), drs: str | None = None, groups: Any = None) -> Inventory:
    """Read ``{"esx-01": "A100-80GB mig 2 consolidation"}``: model, mode, number of GPUs, policy, and words on its state."""
    infos = [info(text, number) for number, text in enumerate(there, 1)]
    found = []
    for number, (name, text) in enumerate(hosts.items(), 1):
        model, mode, count, policy, *state = text.split()
        gpus = []
        for index in range(int(count)):
            users = tuple(vm.moid for vm in infos if vm.host == name and vm.powered_on and index in _gpus(vm))
            gpus.append(GpuInfo(index, f"0000:{0x3B + index:02x}:00.0", model, mode=mode, vms=users))  # type: ignore[arg-type]
        found.append(
            HostInfo(
                name,
                f"host-{number}",
                cluster="cluster-1" if drs else None,
                cluster_moid="domain-c1",
                gpus=tuple(gpus),
                vgpu_types=TYPES,
                connected="disconnected" not in state,
                in_maintenance="maintenance" in state,
                assignment_policy=policy,
            )
        )
    moids = {vm.name: vm.moid for vm in infos}
    made = tuple(GroupInfo(name, vms=tuple(moids[vm] for vm in members)) for name, members in (groups or {}).items())
    hosts_too = tuple(GroupInfo(f"gpu-partitioner-host-{h.name}", hosts=(h.moid,)) for h in found) if groups else ()
    rules = tuple(
        RuleInfo(
            group.name.removesuffix("-vms"),
            key,
            "vm-host",
            mandatory=True,
            vm_group=group.name,
            host_group="gpu-partitioner-host",
        )
        for key, group in enumerate(made, 1)
    )
    clusters = (ClusterInfo("cluster-1", "domain-c1", drs=drs, groups=(*made, *hosts_too), rules=rules),) if drs else ()
    return Inventory("vc.lab", "8.0.3.0", hosts=tuple(found), vms=tuple(infos), clusters=clusters)


def machine(text: str) -> Vm:
    """Return a machine that shall be."""
    name, host, mark, *words = text.split()
    plan, workload, replicas = mark.split("/")
    numbers = tuple(map(int, replicas.split("+")))
    devices, fields = [], {}
    for word in words:
        match = _DEVICE.fullmatch(word)
        if match:
            place = None
            if match["gpu"]:
                place = Place(workload, numbers[0], int(match["gpu"]), "mig", match["profile"], int(match["start"]))
            devices.append(Device(vgpu=match["type"], place=place))
        elif "=" in word:
            key, value = word.split("=")
            fields[key] = int(value) if key in _NUMBERS else float(value) if key == "ram_gib" else value
        elif word == "stays-off":
            fields["power_on"] = False
    return Vm(
        name=name,
        plan=plan,
        workload=workload,
        replicas=numbers,
        instance_uuid=instance_uuid(plan, workload, numbers),
        devices=tuple(devices),
        host=None if host == "-" else host,
        datastore="ds1",
        **fields,
    )


def info(text: str, number: int) -> VmInfo:
    """Return a machine that is there."""
    words = text.split()
    theirs = words[2] == "-"
    states = {"off", "suspended", "template"}
    vm = machine(" ".join([*words[:2], "none/none/0" if theirs else words[2], *(w for w in words[3:] if w not in states)]))
    settings = {} if theirs else vm.extra_config()
    kept = ("gpu-partitioner.", "pciPassthru")
    return VmInfo(
        name=vm.name,
        moid=f"vm-{number}",
        instance_uuid=f"theirs-{number}" if theirs else vm.instance_uuid,
        host=vm.host,
        powered_on=not states & set(words),
        suspended="suspended" in words,
        template="template" in words,
        devices=tuple(VmDevice(13000 + key, "vgpu", vgpu=device.vgpu) for key, device in enumerate(vm.devices)),
        vcpus=vm.vcpus,
        ram_gib=vm.ram_gib,
        memory_locked=True,
        firmware=vm.firmware,
        options=tuple(sorted((key, value) for key, value in settings.items() if key.startswith(kept))),
        change_version=f"v{number}",
    )


def _gpus(vm: VmInfo) -> set[int]:
    return {place.gpu for place in vm.mark.places} if vm.mark is not None else {0}


def cases() -> list[Case]:
    return [Case(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.json"))]


def main() -> None:
    for case in cases():
        outcome = case.outcome()
        if outcome == case.expected:
            continue
        print(f"{case.name} differs")
        if case.name in sys.argv[1:]:
            data = {key: value for key, value in case.data.items() if key not in ("steps", "error")} | outcome
            (FOLDER / f"{case.name}.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
