"""Golden cases of virtual machines: a plan, defaults and hosts, and the specifications of its machines, or the error.

A case is a YAML file in tests/golden/vms. ``python tests/golden_vms.py NAME ...`` writes the outcome of today into cases, to be
read by a person before it is committed; without names it only says which cases differ.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from partitioner import Fleet, Plan, catalog, plan
from partitioner.errors import SpecError
from partitioner.workload import read_workloads
from vsphere.machine import Vm, VmDefaults, dump, layout_vms, needed_versions, read_defaults, to_config_spec
from vsphere.machine.versions import newest
from vsphere.values import GpuInfo, HostInfo, NetworkInfo, NicInfo

FOLDER = Path(__file__).parent / "golden" / "vms"


@dataclass(frozen=True)
class Case:
    name: str
    data: dict[str, Any]

    @property
    def plan(self) -> Plan:
        given = self.data["given"]
        fields = [{key: host[key] for key in ("name", "gpus", "links") if key in host} for host in given["hosts"]]
        fleet = Fleet(hosts=fields)  # type: ignore[arg-type]
        return plan(read_workloads(given["workloads"]), fleet=fleet)

    @property
    def defaults(self) -> VmDefaults:
        return read_defaults(self.data["given"]["defaults"])

    @property
    def hosts(self) -> tuple[HostInfo, ...]:
        given = self.data["given"]
        return (
            tuple(host_info(**{k: v for k, v in host.items() if k != "links"}) for host in given["hosts"])
            if given.get("inventory", True)
            else ()
        )

    def vms(self) -> tuple[Vm, ...]:
        return layout_vms(self.plan, self.defaults, hosts=self.hosts)

    def outcome(self) -> dict[str, Any]:
        by_name = {host.name: host for host in self.hosts}
        networks = [NetworkInfo(**network) for network in self.data["given"].get("networks", [])]
        try:
            specs = [to_config_spec(vm, by_name.get(vm.host or ""), networks=networks) for vm in self.vms()]
        except SpecError as error:
            return {"error": str(error).splitlines()}
        needs = needed_versions(*specs)
        least = newest(needs.values())
        return {
            "needs": {name: version for name, version in needs.items() if version == least},
            "specs": [dump(spec) for spec in specs],
        }

    @property
    def expected(self) -> dict[str, Any]:
        return {key: value for key, value in self.data.items() if key != "given"}


def host_info(
    name: str, gpus: list[str], *, esxi: str = "8.0.3", boards: int = 0, nics: int = 0, cluster: str | None = "gpu"
) -> HostInfo:
    """A host with these GPUs that offers the types of one of the boards of each model; two NUMA nodes."""
    offered: list[str] = []
    infos = []
    for index, model in enumerate(gpus):
        record = catalog.gpu(model).record
        board = record.boards[boards if boards < len(record.boards) else 0]
        offered += [t.esxi_name for t in board.types if t.esxi_name and t.esxi_name not in offered]
        infos.append(
            GpuInfo(
                index=index,
                pci_id=f"0000:{0x17 + 0x10 * index:02x}:00.0",
                model=record.name,
                device_id=f"10de:{int(record.pci_device_ids[0], 16):04x}",
                numa_node=index * 2 // len(gpus),
            )
        )
    adapters = [
        NicInfo(
            f"vmnic{n}",
            f"0000:{0x80 + n:02x}:00.0",
            numa_node=n % 2,
            passthrough_enabled=True,
            sriov_vfs=2,
            device_id="15b3:101d",
        )
        for n in range(nics)
    ]
    return HostInfo(
        name,
        f"host-{name}",
        cluster=cluster,
        datacenter="/DC0",
        gpus=tuple(infos),
        vgpu_types=tuple(offered),
        nics=tuple(adapters),
        version=esxi,
        system_id=f"id-of-{name}",
    )


def cases() -> list[Case]:
    return [Case(path.stem, yaml.safe_load(path.read_text())) for path in sorted(FOLDER.glob("*.yaml"))]


def main(names: list[str]) -> None:
    for case in cases():
        if case.name in names or "all" in names:
            data = {"given": case.data["given"], **case.outcome()}
            (FOLDER / f"{case.name}.yaml").write_text(yaml.safe_dump(data, sort_keys=False, width=120))
        elif case.outcome() != case.expected:
            print(case.name)


if __name__ == "__main__":
    main(sys.argv[1:])
