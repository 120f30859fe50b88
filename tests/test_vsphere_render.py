"""Scripts for other tools: each must make what our own specifications make.

The govc script is run with govc against govmomi's unmodified simulator, the play with Ansible against the extended vCenter, and
the PowerCLI script, for which no registry carries a PowerShell, is parsed by its grammar and its values are read back.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ansible_tools
import govc as govc_program
import pytest
import tree_sitter
import tree_sitter_powershell
import yaml
from golden_vms import cases, host_info
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl
from vcenter import Gpu, Host, VCenter, Vcsim

from partitioner import Fleet, Workload, plan
from partitioner.errors import SpecError
from vsphere.machine import (
    Device,
    Nic,
    Vm,
    VmDefaults,
    dump,
    host_rules,
    layout_vms,
    power_on_order,
    to_config_spec,
    to_rules_spec,
)
from vsphere.render import ansible, govc, powercli
from vsphere.render.powershell import quoted
from vsphere.values import UUID, ClusterInfo

NASTY = "it's $(touch pwned) `touch pwned` {{ 1 + 1 }} \"; touch pwned; %"


def machines(hosts: tuple[str, str], **defaults: Any) -> tuple[Vm, ...]:
    """Machines on two hosts: one each, one with two vGPUs, one whose workload's name is made to break out of quotes."""
    workloads = [
        Workload("chat", profile="3g.40gb", count=2),
        Workload(NASTY, profile="2g.20gb"),
        Workload("big", profile="1g.10gb", gpus_per_replica=2),
    ]
    wanted = plan(workloads, fleet=Fleet.of("A100-80GB", hosts=hosts, gpus_per_host=1))
    given: dict[str, Any] = {"plan": "p1", "folder": "gpu/team a", "parameters": {"enable_uvm": 1}, "options": {"my.key": NASTY}}
    return layout_vms(wanted, VmDefaults(**given | defaults))


# -- looking into a vCenter --------------------------------------------------------------------------------------------


@contextmanager
def connected(center: Vcsim | VCenter) -> Iterator[vim.ServiceInstance]:
    context = ssl.create_default_context(cafile=center.ca_file)
    service = SmartConnect(host=center.host, port=center.port, user=center.user, pwd=center.password, sslContext=context)
    try:
        yield service
    finally:
        Disconnect(service)


def collected(service: vim.ServiceInstance, kind: Any, *paths: str) -> dict[Any, dict[str, Any]]:
    content = service.RetrieveContent()
    view = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
    walk = vmodl.query.PropertyCollector.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
    spec = vmodl.query.PropertyCollector.FilterSpec(
        objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[vmodl.query.PropertyCollector.PropertySpec(type=kind, pathSet=list(paths))],
    )
    found = content.propertyCollector.RetrieveContents([spec])
    return {entry.obj: {prop.name: prop.val for prop in entry.propSet} for entry in found}


def facts(center: Vcsim | VCenter) -> dict[str, Any]:
    """All that matters of the machines that were made, and the rules of their clusters."""
    with connected(center) as service:
        names = {entity: seen["name"] for entity, seen in collected(service, vim.ManagedEntity, "name").items()}
        seen = collected(service, vim.VirtualMachine, "name", "parent", "config", "runtime.host", "runtime.powerState")
        found: dict[str, Any] = {
            each["name"]: machine_facts(each, names) for each in seen.values() if names.get(each.get("parent")) == "team a"
        }
        for cluster, each in collected(service, vim.ClusterComputeResource, "configurationEx").items():
            config = each["configurationEx"]
            found[f"cluster {names[cluster]}"] = {
                **{
                    group.name: sorted(names[m] for m in getattr(group, "vm", ()) or getattr(group, "host", ()))
                    for group in config.group
                },
                **{r.name: (r.enabled, r.mandatory, r.vmGroupName, r.affineHostGroupName) for r in config.rule},
            }
    return found


def machine_facts(seen: dict[str, Any], names: dict[Any, str]) -> dict[str, Any]:
    config = seen["config"]
    devices = config.hardware.device
    options = {option.key: str(option.value) for option in config.extraConfig}
    options.pop(UUID, None)  # other tools cannot set it
    kept = ("pciPassthru", "gpu-partitioner.", "my.", "guestinfo.")
    return {
        "host": names[seen["runtime.host"]],
        "on": seen["runtime.powerState"] == "poweredOn",
        "cpus": (config.hardware.numCPU, config.hardware.memoryMB),
        "reserved": (config.memoryReservationLockedToMax, config.memoryAllocation.reservation),
        "firmware": config.firmware,
        "guest": config.guestId,
        "notes": config.annotation,
        "gpus": [
            getattr(d.backing, "vgpu", None) or d.backing.id
            for d in devices
            if isinstance(d, vim.vm.device.VirtualPCIPassthrough)
        ],
        "disks": [d.capacityInKB for d in devices if isinstance(d, vim.vm.device.VirtualDisk)],
        "scsi": [type(d).__name__ for d in devices if isinstance(d, vim.vm.device.VirtualSCSIController)],
        "nics": [type(d).__name__ for d in devices if isinstance(d, vim.vm.device.VirtualEthernetCard)],
        "options": {key: value for key, value in options.items() if key.startswith(kept)},
    }


def finish(task: vim.Task) -> Any:
    """Wait for a task, whose name the simulator spells as pyVim's own waiting does not expect."""
    while (info := task.info).state in ("queued", "running"):
        time.sleep(0.01)
    if info.state == "error":
        raise info.error
    return info.result


def make(center: Vcsim | VCenter, vms: tuple[Vm, ...]) -> None:
    """Make machines with our own specifications, one call each."""
    with connected(center) as service:
        hosts = {seen["name"]: host for host, seen in collected(service, vim.HostSystem, "name").items()}
        (root,) = [seen["vmFolder"] for seen in collected(service, vim.Datacenter, "vmFolder").values()]
        folder = root.CreateFolder("gpu").CreateFolder("team a")
        made = {}
        for vm in vms:
            host = hosts[vm.host or ""]
            made[vm.name] = finish(folder.CreateVM_Task(to_config_spec(vm), host.parent.resourcePool, host))
        for cluster in {vm.cluster for vm in vms}:
            assert cluster
            ids = {"vms": {n: vm._moId for n, vm in made.items()}, "hosts": {n: host._moId for n, host in hosts.items()}}
            spec = to_rules_spec(host_rules(vms), ClusterInfo(cluster, "c"), **ids)
            (resource,) = [
                c for c, seen in collected(service, vim.ClusterComputeResource, "name").items() if seen["name"] == cluster
            ]
            finish(resource.ReconfigureComputeResource_Task(spec, True))
        for vm in power_on_order(vms):
            finish(made[vm.name].PowerOnVM_Task())


# -- govc --------------------------------------------------------------------------------------------------------------


def run_govc(script: str, center: Vcsim, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "script.sh").write_text(script)
    environment = {
        "PATH": f"{govc_program.build().parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "GOVC_URL": f"https://{center.host}:{center.port}/sdk",
        "GOVC_USERNAME": center.user,
        "GOVC_PASSWORD": center.password,
        "GOVC_TLS_CA_CERTS": center.ca_file,
    }
    command = ["/bin/bash", "script.sh"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def plain(**more: Any) -> tuple[Vm, ...]:
    return machines(("DC0_C0_H0", "DC0_C0_H1"), datastore="LocalDS_0", cluster="DC0_C0", **more)


def test_govc_script_ends_in_the_same_inventory_and_settles(tmp_path: Path) -> None:
    vms = plain()
    with Vcsim(vms=0) as ours, Vcsim(vms=0) as theirs:
        make(ours, vms)
        for attempt in range(2):
            done = run_govc(govc(vms), theirs, tmp_path)
            assert done.returncode == 0, done.stderr
            assert facts(theirs) == facts(ours), f"run {attempt}"
        assert done.stdout.count("is on, left as it is") == len(vms)
    assert not list(tmp_path.rglob("pwned"))


def test_govc_script_goes_on_where_a_run_was_cut_off(tmp_path: Path) -> None:
    vms = plain(datacenter="/DC0")
    text = govc(vms)
    with Vcsim(vms=0) as whole, Vcsim(vms=0) as cut:
        assert run_govc(text, whole, tmp_path).returncode == 0
        for stop in ("    give ", "govc vm.change", "govc gpu.vm.add", "govc cluster.rule.create", "govc vm.power"):
            # Ends the second time that the command comes up, as a kill before it would
            stopping = 'times=0\nstopping() { [ $((times += 1)) -lt 2 ] || exit 7; "$@"; }\nset -euo'
            broken = text.replace(stop, stop.replace(stop.strip(), f"stopping {stop.strip()}")).replace("set -euo", stopping, 1)
            assert run_govc(broken, cut, tmp_path).returncode == 7, stop
        assert run_govc(text, cut, tmp_path).returncode == 0
        assert facts(cut) == facts(whole)


def test_govc_script_takes_no_name_for_an_option(tmp_path: Path) -> None:
    vm = replace(plain(datacenter="/DC0")[0], name="-on=true", power_on=False)
    with Vcsim(vms=0) as center:
        done = run_govc(govc([vm]), center, tmp_path)
        assert done.returncode == 0, done.stderr
        assert facts(center)["-on=true"]["on"] is False


def test_govc_script_stops_no_pipe_half_way() -> None:
    """With pipefail, who still writes when grep -q has found what it looks for makes the whole pipe fail."""
    text = govc(plain(datacenter="/DC0"))
    assert "pipefail" in text
    assert "| listed " in text
    assert not re.search(r"\| *(?:grep -\w*q|head\b)", text)


def test_govc_script_leaves_the_machines_of_others_alone(tmp_path: Path) -> None:
    vms = plain()
    stranger = replace(vms[0], workload="somebody-else", instance_uuid=vms[0].instance_uuid[:-1] + "0")
    with Vcsim(vms=0) as center:
        assert run_govc(govc([stranger]), center, tmp_path).returncode == 0
        before = facts(center)
        done = run_govc(govc([vms[0]]), center, tmp_path)
        assert done.returncode == 1
        assert "a machine of this name is there, and it is not ours" in done.stderr
        assert facts(center) == before
        done = run_govc(
            govc([replace(stranger, devices=(Device(vgpu="grid_a100d-4-40c"),))]).replace(
                "powered_on() {", "powered_on() { return 1"
            ),
            center,
            tmp_path,
        )
        assert "device 0 is grid_a100d-3-40c, not grid_a100d-4-40c" in done.stderr


def test_govc_script_hands_guests_over(tmp_path: Path) -> None:
    vm = plain(guest="guest.yaml", per_vm=1)[0]
    for key in ("metadata", "userdata"):
        (tmp_path / f"{vm.name}.{key}").write_text(base64.b64encode(key.encode()).decode())
    with Vcsim(vms=0) as center:
        done = run_govc(govc([vm]), center, tmp_path)
        assert done.returncode == 0, done.stderr
        options = facts(center)[vm.name]["options"]
    assert options["guestinfo.userdata"] == base64.b64encode(b"userdata").decode()
    assert options["guestinfo.metadata.encoding"] == "gzip+base64"


def test_govc_script_gives_devices_by_address(tmp_path: Path) -> None:
    with VCenter([Host("esx-01", gpus=[Gpu("A100-80GB", "passthrough"), Gpu("A100-80GB", "mig")])]) as center:
        address = center.gpus("esx-01")[0].pci_id
        vm = machines(("esx-01", "esx-02"), datastore="datastore-1", cluster="cluster-1")[0]
        text = govc([replace(vm, devices=(Device(fixed=address),))])
        off = text.replace("govc vm.power -on", "true")
        for script in (off, off, text):
            done = run_govc(script, center, tmp_path)
            assert done.returncode == 0, done.stderr
            assert facts(center)[vm.name]["gpus"] == [address]
        assert [card.uses[0].vm for card in center.gpus("esx-01") if card.uses] == [vm.name]


def test_govc_refuses_what_it_cannot_do() -> None:
    vm = plain()[0]
    dynamic = replace(vm, devices=(Device(dynamic=("10de:20b5",)),))
    numa = replace(vm, name="n", devices=(Device(vgpu="grid_a100d-3-40c", numa_node=0),), cores_per_numa_node=8)
    sriov = replace(vm, name="s", nics=(Nic(network="n", sriov="0000:80:00.0"),))
    with pytest.raises(SpecError) as caught:
        govc([dynamic, numa, sriov, vm])
    assert [problem.field for problem in caught.value.problems] == [f"VM '{vm.name}'", "VM 'n'", "VM 'n'", "VM 's'"]
    with pytest.raises(SpecError, match="without a host or cluster"):
        govc([replace(vm, host=None, cluster=None)])


# -- Ansible -----------------------------------------------------------------------------------------------------------


def test_play_ends_in_the_same_inventory_and_settles(tmp_path: Path) -> None:
    vms = machines(("esx-01", "esx-02"), datastore="datastore-1", cluster="cluster-1", datacenter="/DC0")
    vms = tuple(vm for vm in vms if vm.workload != "chat")
    play = tmp_path / "play.yaml"
    play.write_text(ansible(vms))
    hosts = [Host(name, gpus=[Gpu("A100-80GB", "mig")]) for name in ("esx-01", "esx-02")]
    with VCenter(hosts) as ours, VCenter(hosts) as theirs:
        make(ours, vms)
        (tmp_path / "login.yaml").write_text(
            yaml.safe_dump(
                {
                    "vcenter_hostname": theirs.host,
                    "vcenter_port": theirs.port,
                    "vcenter_username": theirs.user,
                    "vcenter_password": theirs.password,
                }
            )
        )
        login = ("-e", f"@{tmp_path / 'login.yaml'}")
        done = ansible_tools.playbook(play, *login, ca_file=theirs.ca_file)
        assert done.returncode == 0, done.stdout + done.stderr
        assert facts(theirs) == facts(ours)
        done = ansible_tools.playbook(play, *login, ca_file=theirs.ca_file)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "changed=0 " in done.stdout, done.stdout
    assert not list(tmp_path.rglob("pwned"))


def test_play_keeps_secrets_and_braces(tmp_path: Path) -> None:
    vm = machines(("esx-01", "esx-02"), datastore="d", cluster="c", guest="guest.yaml")[0]
    text = ansible([vm])
    tasks = yaml.load(text, Loader=unsafe_loader())[0]["tasks"]  # noqa: S506
    create = next(task for task in tasks if "community.vmware.vmware_guest" in task)
    assert create["no_log"] is True
    settings = {entry["key"]: entry["value"] for entry in create["community.vmware.vmware_guest"]["advanced_settings"]}
    assert settings["guestinfo.userdata"].startswith("{{ lookup('ansible.builtin.file'")
    assert settings["my.key"] == ("!unsafe", NASTY)


def test_play_expands_nothing_of_a_folder() -> None:
    vm = replace(machines(("esx-01", "esx-02"), datastore="d", cluster="c")[0], folder="a/{{ lookup('pipe', 'id') }}")
    with pytest.raises(SpecError, match="name the datacenter"):
        ansible([replace(vm, datacenter=None)])
    assert "folder: !unsafe '/DC0/vm/a/{{" in ansible([replace(vm, datacenter="DC0")])


def unsafe_loader() -> Any:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!unsafe", lambda loader, node: ("!unsafe", loader.construct_scalar(node)))  # type: ignore[type-var,arg-type]
    return Loader


def test_play_refuses_what_the_collection_cannot_do() -> None:
    vm = machines(("esx-01", "esx-02"), datastore="d", cluster="c")[0]
    for odd in (
        replace(vm, devices=(Device(fixed="0000:17:00.0"),)),
        replace(vm, latency="high"),
        replace(vm, cores_per_numa_node=8),
        replace(vm, nics=(Nic(fixed="0000:80:00.0"),)),
        replace(vm, datastore=None),
    ):
        with pytest.raises(SpecError, match=r"community\.vmware cannot"):
            ansible([odd])


# -- PowerCLI ----------------------------------------------------------------------------------------------------------


def parse(text: str) -> tree_sitter.Node:
    language = tree_sitter.Language(tree_sitter_powershell.language())
    return tree_sitter.Parser(language).parse(text.encode()).root_node


def nodes(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


@pytest.mark.parametrize("case", [case for case in cases() if "specs" in case.data], ids=lambda case: case.name)
def test_powercli_script_parses_and_says_every_value(case: Any) -> None:
    vms = case.vms()
    hosts = {host.name: host for host in case.hosts}
    root = parse(powercli([replace(vm, host=vm.host or "h") for vm in vms], hosts=hosts or {"h": None}))  # type: ignore[dict-item]
    assert not root.has_error
    wanted = [type_names(to_config_spec(vm, hosts.get(vm.host or ""))) for vm in vms]
    texts = [(node.text or b"").decode() for node in nodes(root) if node.type == "command"]
    made = [
        re.findall(r"-TypeName VMware\.Vim\.(\w+)", text) for text in texts if "VMware.Vim.VirtualMachineConfigSpec" in text[:80]
    ]
    assert made == wanted


def type_names(value: Any) -> list[str]:
    """Names of the WSDL of all objects in a specification, in order."""
    if isinstance(value, list):
        return [name for entry in value for name in type_names(entry)]
    if not hasattr(value, "_GetPropertyList"):
        return []
    inner = [name for info in value._GetPropertyList() for name in type_names(getattr(value, info.name))]
    return [type(value)._wsdlName, *inner]


def test_powercli_literals_come_back_as_they_were() -> None:
    vm = plain()[-1]
    vm = replace(vm, options={"my.key": f"{NASTY} \u2019; Remove-VM * \u201a\u201b"})
    root = parse(powercli([vm]))
    assert not root.has_error
    literals = {(node.text or b"").decode() for node in nodes(root) if node.type == "verbatim_string_characters"}
    read = {re.sub("(['\u2018\u2019\u201a\u201b])\\1", r"\1", text[1:-1]) for text in literals}
    spec = dump(to_config_spec(vm))
    assert {*spec["extraConfig"], *spec["extraConfig"].values(), spec["annotation"], spec["instanceUuid"], *vm.vgpus} <= read
    assert quoted("a\u2019b'c$d") == "'a\u2019\u2019b''c$d'"


def test_the_parser_can_refuse() -> None:
    assert parse(powercli(plain()).replace("@{", "@", 1)).has_error
    assert parse("$a = 'x' 'y").has_error


def test_powercli_gives_devices_by_address_with_the_hosts_facts() -> None:
    host = host_info("DC0_C0_H0", ["A100-80GB"])
    vm = replace(plain()[0], host="DC0_C0_H0", devices=(Device(fixed="0000:17:00.0"),))
    assert "SystemId = 'id-of-DC0_C0_H0'" in powercli([vm], hosts={host.name: host})
    with pytest.raises(SpecError, match="inventory entry is needed"):
        powercli([vm])
