"""The vCenter of the tests, seen through the real pyVmomi over TLS: does it obey vCenter's rules, and fail when told to?"""

import http.client
import os
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pyVim.connect import Disconnect, SmartConnect, SmartStubAdapter
from pyVmomi import vim, vmodl
from vcenter import Gpu, Host, Nic, VCenter, Vcsim, Vm
from vcenter.inventory import facts
from vcenter.program import check

from partitioner import catalog

MIG_1, MIG_2, MIG_3, MIG_4, MIG_7 = (f"grid_a100d-{name}c" for name in ("1-10", "2-20", "3-40", "4-40", "7-80"))


@contextmanager
def login(server, *, host="127.0.0.1", password=None, ca_file=None):
    context = ssl.create_default_context(cafile=ca_file or server.ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    stub = SmartStubAdapter(host=host, port=server.port, sslContext=context)  # SmartConnect leaves it open where it fails
    instance = vim.ServiceInstance("ServiceInstance", stub)
    try:
        content = instance.RetrieveContent()
        content.sessionManager.Login(server.user, password or server.password)
        yield content
        with suppress(vmodl.MethodFault, OSError, http.client.HTTPException):  # what the test did to the session
            content.sessionManager.Logout()
    finally:
        stub.DropConnections()


def found(content, kind, name):
    view = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
    try:
        return next(entity for entity in view.view if entity.name == name)
    finally:
        view.Destroy()


def ended(task):
    """Wait for a task; return its result, or raise its fault."""
    deadline = time.monotonic() + 20
    while (info := task.info).state not in ("success", "error"):
        assert time.monotonic() < deadline, info
        time.sleep(0.003)
    if info.state == "error":
        fault = info.error
        fault.msg = fault.msg or fault.localizedMessage
        raise fault
    return info.result


def pci(*backings, operation="add"):
    return [
        vim.vm.device.VirtualDeviceSpec(operation=operation, device=vim.vm.device.VirtualPCIPassthrough(key=-n, backing=backing))
        for n, backing in enumerate(backings, 1)
    ]


def vgpus(*names):
    return pci(*(vim.vm.device.VirtualPCIPassthrough.VmiopBackingInfo(vgpu=name) for name in names))


def config(name, devices=(), *, locked=True, ram_gib=4, datastore="datastore-1", **rest):
    return vim.vm.ConfigSpec(
        name=name,
        memoryMB=ram_gib * 1024,
        numCPUs=4,
        files=vim.vm.FileInfo(vmPathName=f"[{datastore}]"),
        deviceChange=list(devices),
        memoryReservationLockedToMax=locked,
        firmware="efi",
        **rest,
    )


class Lab:
    """A vCenter and a session."""

    def __init__(self, server, content):
        self.server, self.content = server, content
        self.folder = content.rootFolder.childEntity[0].vmFolder

    def host(self, name="esx-01"):
        return found(self.content, vim.HostSystem, name)

    def create(self, name, *types, host="esx-01", devices=None, **rest):
        system = self.host(host)
        spec = config(name, vgpus(*types) if devices is None else devices, **rest)
        return ended(self.folder.CreateVM_Task(spec, system.parent.resourcePool, system))

    def run(self, name, *types, **rest):
        machine = self.create(name, *types, **rest)
        ended(machine.PowerOnVM_Task())
        return machine

    def placed(self, host="esx-01"):
        return [[(use.vm, use.shape, use.start) for use in card.uses] for card in self.server.gpus(host)]


@pytest.fixture
def lab():
    """A function that starts a vCenter and logs in."""
    opened = []

    def start(*hosts, vms=(), **rest):
        server = VCenter(hosts, vms, **rest).__enter__()
        opened.append(server)
        session = login(server)
        opened.append(session)
        return Lab(server, session.__enter__())

    yield start
    for manager in reversed(opened):
        manager.__exit__(None, None, None)


@pytest.fixture(scope="module")
def plain():
    with Vcsim() as server:
        yield server


# -- the program -------------------------------------------------------------------------------------------------------


def test_go_has_nothing_to_say():
    assert check() == ""


def test_server_ends_with_the_process_that_started_it():
    code = (
        "from vcenter import Vcsim; import os; s = Vcsim().start(); print(s.pid, s.ca_file, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9
    pid, ca_file = done.stdout.split()
    state = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and ") Z " not in state.read_text():  # nobody may be there to reap it
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not Path(ca_file).parent.exists()


def test_what_cannot_be_is_said_at_the_start():
    with pytest.raises(RuntimeError, match="GPU T4 has no mode mig"):
        VCenter([Host("esx-01", [Gpu("T4", "mig")])]).start()
    with pytest.raises(RuntimeError, match="VM b: The amount of graphics resource"):
        VCenter([Host("esx-01", ["T4"])], [Vm(n, "esx-01", vgpus=["grid_t4-16q"], powered_on=True) for n in "ab"]).start()


# -- the unmodified simulator: the protocol ----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_login_over_verified_tls(plain, host):
    with login(plain, host=host) as content:
        assert content.about.apiVersion == "8.0.3.0"
        assert [entity.name for entity in content.rootFolder.childEntity] == ["DC0"]


def test_the_usual_way_to_connect(plain):
    context = ssl.create_default_context(cafile=plain.ca_file)
    instance = SmartConnect(host=plain.host, port=plain.port, user=plain.user, pwd=plain.password, sslContext=context)
    assert instance.content.sessionManager.currentSession.userName == plain.user
    Disconnect(instance)


def test_wrong_password(plain):
    with pytest.raises(vim.fault.InvalidLogin), login(plain, password="wrong"):  # noqa: S106 -- it is
        pass


def test_authority_that_is_not_trusted(plain):
    with Vcsim() as other, pytest.raises(ssl.SSLCertVerificationError, match="certificate"), login(plain, ca_file=other.ca_file):
        pass


@pytest.mark.parametrize(("kind", "words"), [("expired", "expired"), ("wrong-name", "IP address mismatch")])
def test_bad_certificates(kind, words):
    with Vcsim(certificate=kind) as server, pytest.raises(ssl.SSLCertVerificationError, match=words), login(server):
        pass


def test_thumbprint_is_the_certificates(plain):
    from hashlib import sha256

    pem = ssl.get_server_certificate((plain.host, plain.port), ca_certs=plain.ca_file)
    assert sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() == plain.thumbprint


def test_older_api_version():
    with Vcsim(api_version="7.0.0.0") as server, login(server) as content:
        assert content.about.apiVersion == "7.0.0.0"
        assert content.rootFolder._stub.version == "vim.version.v7_0"


def test_simulator_creates_changes_and_deletes(plain):
    with login(plain) as content:
        host = found(content, vim.HostSystem, "DC0_C0_H0")
        folder = content.rootFolder.childEntity[0].vmFolder
        spec = config("made", vgpus("grid_a100-4-20c"), datastore="LocalDS_0")
        machine = ended(folder.CreateVM_Task(spec, host.parent.resourcePool, host))
        assert [d.backing.vgpu for d in machine.config.hardware.device if isinstance(d, vim.vm.device.VirtualPCIPassthrough)]
        ended(machine.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key="a.b", value="c")])))
        assert {option.key: option.value for option in machine.config.extraConfig}["a.b"] == "c"
        ended(machine.PowerOnVM_Task())
        ended(machine.PowerOffVM_Task())
        ended(machine.Destroy_Task())
        with pytest.raises(vmodl.fault.ManagedObjectNotFound):
            machine.name  # noqa: B018 -- read over the network


# -- inventory ---------------------------------------------------------------------------------------------------------


def test_host_facts(lab):
    host = Host(
        "esx-01",
        [Gpu("A100-80GB", "mig"), Gpu("A100-80GB"), Gpu("A100-80GB", "passthrough"), Gpu("A100-80GB", "shared")],
        nics=[Nic(numa_node=1, passthrough=True)],
        cores=32,
        threads=64,
        ram_gib=512,
        networks=["VM Network", "training"],
    )
    system = lab(host).host()
    info = system.config.graphicsInfo
    assert [gpu.pciId for gpu in info] == ["0000:3b:00.0", "0000:4b:00.0", "0000:5b:00.0", "0000:6b:00.0"]
    assert [(gpu.graphicsType, gpu.vgpuMode) for gpu in info] == [
        ("sharedDirect", "multiInstanceGpu"),
        ("sharedDirect", "sameSize"),
        ("direct", "none"),
        ("shared", "none"),
    ]
    assert {gpu.memorySizeInKB for gpu in info} == {80 << 20}
    assert MIG_3 in system.config.sharedPassthruGpuTypes
    assert "grid_a100d-80c" in system.config.sharedPassthruGpuTypes
    assert len(system.config.sharedGpuCapabilities) == len(system.config.sharedPassthruGpuTypes)
    devices = {device.id: device for device in system.hardware.pciDevice}
    assert devices["0000:3b:00.0"].vendorId & 0xFFFF == 0x10DE
    assert devices["0000:3b:00.0"].deviceId & 0xFFFF == 0x20B5
    assert devices["0000:3b:00.0"].subDeviceId == 0x1533
    assert devices["0000:10:00.0"].vendorId & 0xFFFF == 0x15B3
    assert [p.id for p in system.config.pciPassthruInfo if p.passthruActive] == ["0000:5b:00.0", "0000:10:00.0"]
    assert [node.pciId for node in system.hardware.numaInfo.numaNode] == [
        ["0000:3b:00.0", "0000:4b:00.0"],
        ["0000:5b:00.0", "0000:6b:00.0", "0000:10:00.0"],
    ]
    assert (system.hardware.cpuInfo.numCpuCores, system.hardware.memorySize) == (32, 512 << 30)
    assert system.summary.hardware.numCpuThreads == 64
    assert [network.name for network in system.network] == ["VM Network", "training"]
    assert system.config.product.version == "8.0.3"
    manager = system.configManager.graphicsManager
    assert [gpu.pciId for gpu in manager.graphicsInfo] == [gpu.pciId for gpu in info]
    assert manager.graphicsConfig.deviceType[3].graphicsType == "shared"
    assert len(system.configManager.pciPassthruSystem.pciPassthruInfo) == 5


def test_vibs(lab):
    center = lab(Host("esx-01", ["T4"]), Host("esx-02"), Host("esx-03", ["T4"], vibs=[("NVIDIA-VMware", "470.82.01")]))

    def drivers(name):
        packages = center.host(name).configManager.imageConfigManager.FetchSoftwarePackages()
        assert packages[0].vendor == "VMware"
        return [(package.name, package.version) for package in packages if package.vendor == "NVIDIA"]

    assert drivers("esx-01")[0][1].startswith("550.90.05")
    assert drivers("esx-02") == []
    assert drivers("esx-03") == [("NVIDIA-VMware", "470.82.01")]


def test_config_target(lab):
    center = lab(
        Host("esx-01", [Gpu("A100-80GB", "mig"), Gpu("A100-80GB", "passthrough")]), Host("esx-02", ["T4"]), Host("esx-03")
    )
    system = center.host()
    target = system.parent.environmentBrowser.QueryConfigTarget(host=system)
    assert {entry.vgpu for entry in target.sharedGpuPassthroughTypes} == set(system.config.sharedPassthruGpuTypes)
    (device,) = target.vgpuDeviceInfo
    assert (device.migCapable, device.maxFbSizeInGib, device.deviceVendorId) == (True, 80, 0x20B5 << 16 | 0x10DE)
    profiles = {profile.profileName: profile for profile in target.vgpuProfileInfo}
    assert (profiles[MIG_3].fbSizeInGib, profiles[MIG_3].profileSharing, profiles[MIG_3].profileClass) == (40, "mig", "compute")
    (dynamic,) = target.dynamicPassthrough
    assert (dynamic.vendorId, dynamic.deviceId) == (0x10DE, 0x20B5)
    other = center.host("esx-02")
    target = other.parent.environmentBrowser.QueryConfigTarget(host=other)
    assert {profile.profileSharing for profile in target.vgpuProfileInfo} == {"timeSliced"}
    assert not target.vgpuDeviceInfo[0].migCapable


def test_hundred_hosts_and_a_thousand_machines(lab):
    hosts = [Host(f"esx-{n:03}", [Gpu("A100-80GB", "mig")] * 2, cluster=f"cluster-{n // 20}") for n in range(100)]
    machines = [Vm(f"vm-{n:04}", f"esx-{n // 10:03}", vgpus=[MIG_1], powered_on=True, ram_gib=2) for n in range(1000)]
    center = lab(*hosts, vms=machines)
    content = center.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem, vim.VirtualMachine], True)
    collector = vmodl.query.PropertyCollector
    walk = collector.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
    wanted = [
        collector.PropertySpec(type=vim.HostSystem, pathSet=["name", "config.graphicsInfo"]),
        collector.PropertySpec(type=vim.VirtualMachine, pathSet=["name", "runtime", "summary.runtime"]),
    ]
    spec = collector.FilterSpec(objectSet=[collector.ObjectSpec(obj=view, skip=True, selectSet=[walk])], propSet=wanted)
    center.server.clear_calls()
    result = content.propertyCollector.RetrievePropertiesEx([spec], collector.RetrieveOptions())
    assert center.server.round_trips == 1
    assert len(result.objects) == 1100
    used = [p.val for entry in result.objects for p in entry.propSet if p.name == "config.graphicsInfo"]
    assert sum(len(gpu.vm) for gpus in used for gpu in gpus) == 1000


# -- GPUs at power-on --------------------------------------------------------------------------------------------------


def test_mig_instances_come_in_power_on_order(lab):
    center = lab(Host("esx-01", [Gpu("A100-80GB", "mig")]))
    center.run("a", MIG_1)
    center.run("b", MIG_2)
    center.run("c", MIG_3)
    assert center.placed() == [[("a", "1g.10gb", 6), ("b", "2g.20gb", 4), ("c", "3g.40gb", 0)]]
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault, match="parent resource pool is insufficient"):
        center.run("d", MIG_2)


def test_order_decides_what_fits(lab):
    center = lab(Host("esx-01", [Gpu("A100-80GB", "mig")]))
    center.run("small", MIG_3)  # goes to 4, where 4g can never start, but ...
    assert center.placed() == [[("small", "3g.40gb", 4)]]
    center.run("large", MIG_4)
    assert center.placed() == [[("small", "3g.40gb", 4), ("large", "4g.40gb", 0)]]
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
        center.run("one", MIG_1)
    center = lab(Host("esx-01", [Gpu("A100-80GB", "mig")]))
    for n in range(7):
        center.run(f"vm-{n}", MIG_1)
    for name in ("vm-1", "vm-3", "vm-5"):
        center.server.power_off(name)
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):  # three slices are free, none beside another
        center.run("pair", MIG_4)


@pytest.mark.parametrize(("order", "last"), [((1, 1, 2, 3), False), ((3, 1, 2, 1), True)])  # from NVIDIA's MIG user guide
def test_order_of_the_user_guide(lab, order, last):
    center = lab(Host("esx-01", [Gpu("A100-80GB", "mig")]))
    kinds = {1: MIG_1, 2: MIG_2, 3: MIG_3}
    for n, slices in enumerate(order[:-1]):
        center.run(f"vm-{n}", kinds[slices])
    machine = center.create("last", kinds[order[-1]])
    if last:
        ended(machine.PowerOnVM_Task())
    else:
        with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
            ended(machine.PowerOnVM_Task())


def test_every_mig_type_of_every_gpu_fits_when_it_is_alone(lab):
    hosts, machines = [], []
    for name in catalog.names():
        kinds = [kind["name"] for kind in facts(name)["types"] if kind["profile"]]
        if kinds:
            hosts.append(Host(f"{name}.lab", [Gpu(name, "mig")] * len(kinds), policy="performance"))
            machines += [Vm(f"{name}-{kind}", f"{name}.lab", vgpus=[kind], powered_on=True) for kind in kinds]
    center = lab(*hosts, vms=machines)  # it would refuse to start where one does not fit
    assert len(machines) > 100
    assert all(len(card.uses) == 1 for host in hosts for card in center.server.gpus(host.name))


def test_graphics_info_says_who_runs_where(lab):
    center = lab(Host("esx-01", [Gpu("A100-80GB", "mig")] * 2, policy="consolidation"))
    machine = center.run("a", MIG_3)
    assert [[vm.name for vm in gpu.vm] for gpu in center.host().config.graphicsInfo] == [["a"], []]
    manager = center.host().configManager.graphicsManager
    assert [list(gpu.vm) for gpu in manager.graphicsInfo] == [[machine], []]
    assert [binding.vm for binding in center.host().config.assignableHardwareBinding] == [machine]
    ended(machine.PowerOffVM_Task())
    assert [list(gpu.vm) for gpu in center.host().config.graphicsInfo] == [[], []]
    ended(machine.PowerOnVM_Task())
    ended(machine.ResetVM_Task())
    assert center.placed()[0]
    ended(machine.PowerOffVM_Task())
    ended(machine.Destroy_Task())
    assert center.placed() == [[], []]


@pytest.mark.parametrize(("policy", "expected"), [("consolidation", [["a", "b"], []]), ("performance", [["a"], ["b"]])])
def test_assignment_policy(lab, policy, expected):
    center = lab(Host("esx-01", [Gpu("A100-80GB", "mig")] * 2, policy=policy))
    for name in "ab":
        center.run(name, MIG_1)
    assert [[use.vm for use in card.uses] for card in center.server.gpus("esx-01")] == expected


def test_equal_size_rule(lab):
    center = lab(Host("esx-01", ["T4", "T4"], policy="consolidation"))
    center.run("a", "grid_t4-4q")
    center.run("b", "grid_t4-8q")  # another size: the other GPU
    assert [[use.type for use in card.uses] for card in center.server.gpus("esx-01")] == [["grid_t4-4q"], ["grid_t4-8q"]]
    for name in "cde":
        center.run(name, "grid_t4-4q")
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
        center.run("f", "grid_t4-4q")
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
        center.run("g", "grid_t4-8c")  # compute does not mix with the others


def test_mixed_sizes(lab):
    center = lab(Host("esx-01", [Gpu("L40S", "vgpu-mixed")]))
    for name, kind in (("a", "nvidia_l40s-24q"), ("b", "nvidia_l40s-12q"), ("c", "nvidia_l40s-4q")):
        center.run(name, kind)
    starts = [use.start for use in center.server.gpus("esx-01")[0].uses]
    assert len(set(starts)) == 3
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
        center.run("d", "nvidia_l40s-24q")


def test_mode_decides_which_types_fit(lab):
    center = lab(Host("esx-01", [Gpu("A100-80GB", "mig"), Gpu("A100-80GB", "shared")]))
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
        center.run("a", "grid_a100d-40c")  # time-sliced


def test_several_vgpus_are_given_together_or_not_at_all(lab):
    center = lab(Host("esx-01", ["T4", "T4"]))
    center.run("a", "grid_t4-16q")
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
        center.run("b", "grid_t4-16q", "grid_t4-16q")
    assert [len(card.uses) for card in center.server.gpus("esx-01")] == [1, 0]
    with pytest.raises(vim.fault.GenericVmConfigFault, match="one series"):
        center.run("c", "grid_t4-4q", "grid_t4-4c")


def test_passthrough(lab):
    center = lab(Host("esx-01", [Gpu("A100-80GB", "passthrough")] * 2 + [Gpu("T4")]))
    backing = vim.vm.device.VirtualPCIPassthrough.DeviceBackingInfo
    fixed = backing(id="0000:3b:00.0", deviceId="20b5", systemId="x", vendorId=0x10DE, deviceName="")
    center.run("a", devices=pci(fixed))
    with pytest.raises(vim.fault.GenericVmConfigFault, match="not available for passthrough"):
        center.run("b", devices=pci(fixed))
    allowed = vim.vm.device.VirtualPCIPassthrough.AllowedDevice(vendorId=0x10DE, deviceId=0x20B5)
    dynamic = vim.vm.device.VirtualPCIPassthrough.DynamicBackingInfo(allowedDevice=[allowed], deviceName="")
    machine = center.run("c", devices=pci(dynamic))
    assert [use.vm for card in center.server.gpus("esx-01") for use in card.uses] == ["a", "c"]
    (device,) = [d for d in machine.config.hardware.device if isinstance(d, vim.vm.device.VirtualPCIPassthrough)]
    assert device.backing.assignedId == "0000:4b:00.0"
    with pytest.raises(vim.fault.GenericVmConfigFault):
        center.run("d", devices=pci(dynamic))
    fixed.id = "0000:5b:00.0"
    with pytest.raises(vim.fault.GenericVmConfigFault, match="not enabled for passthrough"):
        center.run("e", devices=pci(fixed))
    fixed.id = "0000:77:00.0"
    with pytest.raises(vim.fault.InvalidDeviceBacking):
        center.create("f", devices=pci(fixed))


def test_memory_must_be_reserved_and_there(lab):
    center = lab(Host("esx-01", ["T4"], ram_gib=16))
    with pytest.raises(vim.fault.GenericVmConfigFault, match="should be equal to memsize"):
        center.run("a", "grid_t4-4q", locked=False)
    center.run("b", "grid_t4-4q", ram_gib=12)
    with pytest.raises(vim.fault.InsufficientMemoryResourcesFault):
        center.run("c", "grid_t4-4q", ram_gib=8)
    assert [use.vm for use in center.server.gpus("esx-01")[0].uses] == ["b"]
    ended(found(center.content, vim.VirtualMachine, "b").PowerOffVM_Task())
    ended(found(center.content, vim.VirtualMachine, "c").PowerOnVM_Task())


def test_multi_power_on_obeys_the_rules(lab):
    center = lab(Host("esx-01", ["T4"]))
    machines = [center.create(name, "grid_t4-8q") for name in "abc"]
    result = ended(center.content.rootFolder.childEntity[0].PowerOnMultiVM_Task(machines))
    for attempt in result.attempted[:2]:
        ended(attempt.task)
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
        ended(result.attempted[2].task)


def test_check_power_on_takes_nothing(lab):
    center = lab(Host("esx-01", ["T4"]))
    first, second = (center.create(name, "grid_t4-16q") for name in "ab")
    checker = center.content.vmCompatibilityChecker
    for machine in (first, second):
        (check,) = ended(checker.CheckPowerOn_Task(machine))
        assert not check.error
    ended(first.PowerOnVM_Task())
    (check,) = ended(checker.CheckPowerOn_Task(second))
    assert isinstance(check.error[0], vim.fault.InsufficientGraphicsResourcesFault)
    system = center.host()
    (check,) = ended(checker.CheckVmConfig_Task(spec=config("c", vgpus("grid_t4-99q")), host=system))
    assert isinstance(check.error[0], vim.fault.InvalidDeviceBacking)


def test_mandatory_rules_bind_machines_to_hosts(lab):
    center = lab(Host("esx-01", ["T4"]), Host("esx-02", ["T4"]))
    machine = center.create("a", "grid_t4-4q")
    rule = vim.cluster.VmHostRuleInfo(
        name="keep", enabled=True, mandatory=True, userCreated=True, vmGroupName="vms", affineHostGroupName="hosts"
    )
    groups = [
        vim.cluster.VmGroup(name="vms", vm=[machine]),
        vim.cluster.HostGroup(name="hosts", host=[center.host("esx-02")]),
    ]
    spec = vim.cluster.ConfigSpecEx(
        groupSpec=[vim.cluster.GroupSpec(operation="add", info=group) for group in groups],
        rulesSpec=[vim.cluster.RuleSpec(operation="add", info=rule)],
    )
    ended(center.host().parent.ReconfigureComputeResource_Task(spec, True))
    with pytest.raises(vim.fault.VmHostAffinityRuleViolation) as caught:
        ended(machine.PowerOnVM_Task())
    assert (caught.value.vmName, caught.value.hostName) == ("a", "esx-01")
    ended(machine.RelocateVM_Task(vim.vm.RelocateSpec(host=center.host("esx-02"))))
    ended(machine.PowerOnVM_Task())


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_create_refusals(lab):
    center = lab(Host("esx-01", ["T4"]), Host("esx-02", ["T4"], maintenance=True), Host("esx-03", ["T4"], connected=False))
    center.create("a")
    with pytest.raises(vim.fault.DuplicateName, match="'a' already exists"):
        center.create("a")
    with pytest.raises(vim.fault.InvalidDeviceBacking):
        center.create("b", "grid_a100d-1-10c")
    with pytest.raises(vim.fault.InvalidState):
        center.create("c", host="esx-02")
    with pytest.raises(vmodl.fault.HostNotConnected):
        center.create("d", host="esx-03")
    center.server.fill_datastore("datastore-1")
    with pytest.raises(vim.fault.NoDiskSpace):
        center.create("e")
    center.server.fill_datastore("datastore-1", full=False)
    center.create("e")
    assert sorted(vm.name for vm in center.folder.childEntity) == ["a", "e"]


def test_datastore_and_host_of_a_new_machine(lab):
    center = lab(
        Host("esx-01", ["T4"], ram_gib=64),
        Host("esx-02", ["T4"], ram_gib=32, datastores=["datastore-1", "datastore-2"]),
        Host("esx-03", ram_gib=512),
    )
    with pytest.raises(vim.fault.InvalidDatastorePath):
        center.create("a", datastore="datastore-3")
    with pytest.raises(vim.fault.DatastoreNotWritableOnHost):
        center.create("a", datastore="datastore-2")
    pool = center.host().parent.resourcePool

    def create(name, *types, **rest):
        return ended(center.folder.CreateVM_Task(config(name, vgpus(*types), **rest), pool))

    assert create("a").runtime.host.name == "esx-03"  # the most memory
    assert create("b", "grid_t4-4q").runtime.host.name == "esx-01"  # of those with the type
    assert create("c", datastore="datastore-2").runtime.host.name == "esx-02"
    with pytest.raises(vim.fault.NoCompatibleHost):
        create("d", "grid_a100d-1-10c")


def test_relocation(lab):
    center = lab(Host("esx-01", ["T4"]), Host("esx-02", ["T4"]))
    machine = center.run("a", "grid_t4-16q")
    there = vim.vm.RelocateSpec(host=center.host("esx-02"))
    with pytest.raises(vim.fault.InvalidPowerState):
        ended(machine.RelocateVM_Task(there))
    ended(machine.PowerOffVM_Task())
    ended(machine.RelocateVM_Task(there))
    ended(machine.PowerOnVM_Task())
    assert (center.placed("esx-01"), center.placed("esx-02")) == ([[]], [[("a", "", -1)]])


def test_instance_uuid_in_use_is_changed(lab):
    center = lab(Host("esx-01"))
    wanted = "52000000-0000-0000-0000-000000000001"
    assert center.create("a", instanceUuid=wanted).config.instanceUuid == wanted
    assert center.create("b", instanceUuid=wanted).config.instanceUuid != wanted


def test_reconfigure_refusals(lab):
    center = lab(Host("esx-01", ["T4"]))
    center.create("other")
    machine = center.create("a", "grid_t4-4q")
    version = machine.config.changeVersion
    ended(machine.ReconfigVM_Task(vim.vm.ConfigSpec(changeVersion=version, annotation="mine")))
    with pytest.raises(vim.fault.ConcurrentAccess):
        ended(machine.ReconfigVM_Task(vim.vm.ConfigSpec(changeVersion=version, annotation="late")))
    version = machine.config.changeVersion
    center.server.touch_vm("a")
    assert machine.config.changeVersion != version
    with pytest.raises(vim.fault.DuplicateName):
        ended(machine.ReconfigVM_Task(vim.vm.ConfigSpec(name="other")))
    with pytest.raises(vim.fault.DuplicateName):
        ended(machine.Rename_Task("other"))
    with pytest.raises(vim.fault.InvalidDeviceBacking):
        ended(machine.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=vgpus("grid_t4-5q"))))
    ended(machine.PowerOnVM_Task())
    for change in ({"deviceChange": vgpus("grid_t4-4q")}, {"numCPUs": 8}, {"memoryMB": 8192}, {"firmware": "bios"}):
        with pytest.raises(vim.fault.InvalidPowerState):
            ended(machine.ReconfigVM_Task(vim.vm.ConfigSpec(**change)))
    ended(machine.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key="guestinfo.x", value="1")])))


def test_what_a_specification_says_is_kept(lab):
    center = lab(Host("esx-01", ["T4"]))
    numa = vim.vm.VirtualNuma(coresPerNumaNode=2, exposeVnumaOnCpuHotadd=False)
    options = [vim.option.OptionValue(key="pciPassthru.use64bitMMIO", value="TRUE")]
    machine = center.create("a", "grid_t4-4q", virtualNuma=numa, extraConfig=options)
    assert machine.config.firmware == "efi"
    assert machine.config.numaInfo.coresPerNumaNode == 2
    assert machine.config.memoryReservationLockedToMax
    assert machine.config.memoryAllocation.reservation == 4096
    assert {option.key: option.value for option in machine.config.extraConfig}["pciPassthru.use64bitMMIO"] == "TRUE"
    ended(machine.ReconfigVM_Task(vim.vm.ConfigSpec(virtualNuma=vim.vm.VirtualNuma(coresPerNumaNode=4), memoryMB=8192)))
    assert machine.config.numaInfo.coresPerNumaNode == 4


def test_clone_obeys_the_rules(lab):
    center = lab(Host("esx-01", ["T4"]), Host("esx-02", maintenance=True))
    template = center.create("template")
    place = vim.vm.RelocateSpec(host=center.host(), pool=center.host().parent.resourcePool)
    change = vim.vm.ConfigSpec(
        memoryMB=8192, memoryReservationLockedToMax=True, firmware="efi", deviceChange=vgpus("grid_t4-16q")
    )
    spec = vim.vm.CloneSpec(location=place, config=change, powerOn=True)
    machine = ended(template.CloneVM_Task(center.folder, "a", spec))
    assert machine.config.memoryAllocation.reservation == 8192
    assert center.placed() == [[("a", "", -1)]]
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
        ended(template.CloneVM_Task(center.folder, "b", spec))
    with pytest.raises(vim.fault.DuplicateName):
        ended(template.CloneVM_Task(center.folder, "a", spec))
    spec.location.host = center.host("esx-02")
    with pytest.raises(vim.fault.InvalidState):
        ended(template.CloneVM_Task(center.folder, "c", spec))


def test_privileges_that_are_denied(lab):
    center = lab(Host("esx-01"))
    manager, wanted = center.content.authorizationManager, ["VirtualMachine.Inventory.Create", "Host.Config.Settings"]
    session = center.content.sessionManager.currentSession.key

    def granted():
        (entity,) = manager.HasPrivilegeOnEntities([center.folder], session, wanted)
        return [availability.isGranted for availability in entity.privAvailability]

    assert granted() == [True, True]
    center.server.deny("Host.Config.Settings")
    assert granted() == [True, False]


# -- hosts -------------------------------------------------------------------------------------------------------------


def graphics(system, kind, *, policy="performance", mode=None):
    types = [
        vim.host.GraphicsConfig.DeviceType(deviceId=gpu.pciId, graphicsType=kind, vgpuMode=mode)
        for gpu in system.config.graphicsInfo
    ]
    return vim.host.GraphicsConfig(hostDefaultGraphicsType=kind, sharedPassthruAssignmentPolicy=policy, deviceType=types)


def test_host_is_prepared_for_shared_direct(lab):
    center = lab(Host("esx-01", [Gpu("L40S", "shared")], default_graphics="shared"))
    machine = center.create("a", "nvidia_l40s-8q")
    with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
        ended(machine.PowerOnVM_Task())
    system = center.host()
    manager = system.configManager.graphicsManager
    manager.UpdateGraphicsConfig(graphics(system, "sharedDirect", policy="consolidation", mode="mixedSize"))
    assert system.config.graphicsConfig.hostDefaultGraphicsType == "sharedDirect"
    assert system.config.graphicsInfo[0].graphicsType == "shared"  # wanted, not yet active
    manager.RefreshGraphicsManager()
    assert (system.config.graphicsInfo[0].graphicsType, system.config.graphicsInfo[0].vgpuMode) == ("sharedDirect", "mixedSize")
    ended(machine.PowerOnVM_Task())
    with pytest.raises(vim.fault.PlatformConfigFault, match="Virtual machines run on the host"):
        manager.UpdateGraphicsConfig(graphics(system, "shared"))
    manager.UpdateGraphicsConfig(graphics(system, "sharedDirect"))  # the policy may change
    wrong = graphics(system, "sharedDirect")
    wrong.deviceType[0].deviceId = "0000:99:00.0"
    with pytest.raises(vim.fault.NotFound):
        manager.UpdateGraphicsConfig(wrong)


def test_graphics_type_that_needs_a_reboot(lab):
    center = lab(Host("esx-01", [Gpu("T4", "shared")], graphics_needs_reboot=True))
    system = center.host()
    system.configManager.graphicsManager.UpdateGraphicsConfig(graphics(system, "sharedDirect"))
    system.configManager.graphicsManager.RefreshGraphicsManager()
    assert system.config.graphicsInfo[0].graphicsType == "shared"
    ended(system.EnterMaintenanceMode_Task(0))
    ended(system.RebootHost_Task(force=False))
    back(system)
    assert system.config.graphicsInfo[0].graphicsType == "sharedDirect"


def back(system):
    deadline = time.monotonic() + 5
    while system.runtime.connectionState != "connected":
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_passthrough_toggles(lab):
    center = lab(Host("esx-01", [Gpu("T4"), Gpu("T4"), Gpu("T4", passthrough_capable=False)]))
    system = center.host()
    passthru = system.configManager.pciPassthruSystem

    def toggle(device, enabled, **rest):
        passthru.UpdatePassthruConfig([vim.host.PciPassthruConfig(id=device, passthruEnabled=enabled, **rest)])

    toggle("0000:3b:00.0", True)
    toggle("0000:4b:00.0", True, applyNow=True)
    assert [(p.passthruEnabled, p.passthruActive) for p in system.config.pciPassthruInfo[:2]] == [(True, False), (True, True)]
    with pytest.raises(vim.fault.PlatformConfigFault, match="not capable"):
        toggle("0000:5b:00.0", True)
    with pytest.raises(vim.fault.NotFound):
        toggle("0000:99:00.0", True)
    center.run("a", "grid_t4-4q")
    with pytest.raises(vim.fault.PlatformConfigFault, match="in use"):
        toggle("0000:3b:00.0", True, applyNow=True)
    with pytest.raises(vim.fault.InvalidState):  # not in maintenance mode
        ended(system.RebootHost_Task(force=False))
    ended(system.RebootHost_Task(force=True))
    back(system)
    assert [p.passthruActive for p in system.config.pciPassthruInfo] == [True, True, False]
    assert found(center.content, vim.VirtualMachine, "a").runtime.powerState == "poweredOff"
    assert center.placed() == [[], [], []]


def test_mig_mode_is_changed_in_the_shell(lab):
    center = lab(Host("esx-01", [Gpu("A100-80GB")]), Host("esx-02", [Gpu("H100-80GB")]), Host("esx-03", ["T4"]))
    assert center.server.set_mig("esx-03", 0, True) == "not supported"
    assert center.server.set_mig("esx-02", 0, True) == "on"
    assert center.host("esx-02").config.graphicsInfo[0].vgpuMode == "multiInstanceGpu"
    assert center.server.set_mig("esx-01", 0, True) == "pending on"  # Ampere: after a reboot
    system = center.host()
    assert system.config.graphicsInfo[0].vgpuMode == "sameSize"
    ended(system.EnterMaintenanceMode_Task(0))
    booted = system.runtime.bootTime
    ended(system.RebootHost_Task(force=False))
    assert system.runtime.connectionState == "notResponding"
    back(system)
    assert system.runtime.inMaintenanceMode
    assert system.runtime.bootTime > booted
    assert system.config.graphicsInfo[0].vgpuMode == "multiInstanceGpu"
    center.server.reboot_host("esx-02")
    back(center.host("esx-02"))
    assert center.host("esx-02").config.graphicsInfo[0].vgpuMode == "sameSize"  # newer than Ampere: it does not stay


def test_maintenance_waits_for_the_machines(lab):
    center = lab(Host("esx-01", ["T4"]))
    machine = center.run("a", "grid_t4-4q")
    system = center.host()
    task = system.EnterMaintenanceMode_Task(0)
    time.sleep(0.03)
    assert task.info.state == "running"
    assert not system.runtime.inMaintenanceMode
    ended(machine.PowerOffVM_Task())
    ended(task)
    assert system.runtime.inMaintenanceMode
    with pytest.raises(vim.fault.InvalidState):
        ended(machine.PowerOnVM_Task())
    ended(system.ExitMaintenanceMode_Task(0))
    with pytest.raises(vim.fault.InvalidState):
        ended(system.ExitMaintenanceMode_Task(0))
    ended(machine.PowerOnVM_Task())
    with pytest.raises(vim.fault.Timedout):
        ended(system.EnterMaintenanceMode_Task(1))
    task = system.EnterMaintenanceMode_Task(0)
    task.CancelTask()
    with pytest.raises(vmodl.fault.RequestCanceled):
        ended(task)


def test_host_that_does_not_respond(lab):
    center = lab(Host("esx-01", ["T4"]))
    machine = center.run("a", "grid_t4-4q")
    center.server.disconnect_host("esx-01")
    assert center.host().runtime.connectionState == "notResponding"
    assert (machine.runtime.connectionState, machine.runtime.powerState) == ("disconnected", "poweredOn")
    change = vim.vm.ConfigSpec(annotation="x")
    for start in (machine.PowerOffVM_Task, machine.Destroy_Task, lambda: machine.ReconfigVM_Task(change)):
        with pytest.raises(vmodl.fault.HostNotConnected):
            ended(start())
    center.server.reconnect_host("esx-01")
    assert machine.runtime.connectionState == "connected"
    ended(machine.PowerOffVM_Task())
    ended(machine.Destroy_Task())


# -- disturbances ------------------------------------------------------------------------------------------------------


def test_nth_call_fails(lab):
    center = lab(Host("esx-01"))
    center.server.fail("CreateVM_Task", "vim.fault.NoDiskSpace", at=2, message="full", fields={"datastore": "ds", "file": "f"})
    center.create("a")
    with pytest.raises(vim.fault.NoDiskSpace) as caught:
        center.create("b")
    assert (caught.value.datastore, caught.value.faultMessage[0].message) == ("ds", "full")
    center.create("b")


def test_task_fails(lab):
    center = lab(Host("esx-01"))
    machine = center.create("a")
    center.server.fail("PowerOnVM_Task", "vim.fault.InsufficientGraphicsResourcesFault", of="task", times=2)
    for _ in range(2):
        task = machine.PowerOnVM_Task()
        with pytest.raises(vim.fault.InsufficientGraphicsResourcesFault):
            ended(task)
        assert task.info.entity == machine
    ended(machine.PowerOnVM_Task())
    center.server.fail("*", times=0)
    with pytest.raises(vmodl.fault.SystemError):
        machine.PowerOffVM_Task()
    center.server.clear_faults()
    ended(machine.PowerOffVM_Task())
    with pytest.raises(ValueError, match="no fault"):
        center.server.fail("CreateVM_Task", "vim.fault.NoSuchThing")


def test_connection_breaks_before_or_after_the_effect(lab):
    center = lab(Host("esx-01"))
    center.server.drop("CreateVM_Task")
    with pytest.raises((http.client.HTTPException, OSError)):
        center.create("a")
    assert not center.folder.childEntity
    center.server.drop("CreateVM_Task", when="after")
    with pytest.raises((http.client.HTTPException, OSError)):
        center.create("a")
    deadline = time.monotonic() + 5
    while not center.folder.childEntity:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    with pytest.raises(vim.fault.DuplicateName):
        center.create("a")


def test_sessions_expire(lab):
    center = lab(Host("esx-01"))
    collector = center.content.propertyCollector
    spec = vmodl.query.PropertyCollector.FilterSpec(
        objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=center.folder)],
        propSet=[vmodl.query.PropertyCollector.PropertySpec(type=vim.Folder, pathSet=["childEntity"])],
    )
    collector.CreateFilter(spec, partialUpdates=False)
    version = collector.WaitForUpdatesEx("", None).version
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(collector.WaitForUpdatesEx, version, None)
        time.sleep(0.05)
        center.server.expire_sessions()
        with pytest.raises(vim.fault.NotAuthenticated):
            waiting.result(5)
    with pytest.raises(vim.fault.NotAuthenticated):
        center.content.sessionManager.AcquireLocalTicket("x")
    with login(center.server) as again:
        assert again.sessionManager.currentSession


def test_restart(lab):
    center = lab(Host("esx-01"))
    center.server.restart(down_s=0.15)
    with pytest.raises((http.client.HTTPException, OSError)), login(center.server):
        pass
    deadline = time.monotonic() + 5
    while True:
        try:
            with login(center.server) as content:
                assert found(content, vim.HostSystem, "esx-01")
                break
        except (http.client.HTTPException, OSError):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    with pytest.raises(vim.fault.NotAuthenticated):
        center.content.viewManager.CreateListView([])


def test_delays_and_log(lab):
    center = lab(Host("esx-01"))
    center.server.clear_calls()
    center.server.delay_ms(30)
    center.server.delay_ms(20, method="CurrentTime")
    begin = time.monotonic()
    center.content.rootFolder._stub.InvokeAccessor  # noqa: B018 -- no call
    vim.ServiceInstance("ServiceInstance", center.folder._stub).CurrentTime()
    assert time.monotonic() - begin >= 0.05
    center.server.delay_ms(0)
    (call,) = [call for call in center.server.calls() if call.method == "CurrentTime"]
    assert (call.object, call.outcome, call.ms >= 50) == ("ServiceInstance", "ok", True)
    center.server.fail("CurrentTime", "vim.fault.NoPermission")
    with pytest.raises(vim.fault.NoPermission):
        vim.ServiceInstance("ServiceInstance", center.folder._stub).CurrentTime()
    assert [call.outcome for call in center.server.calls() if call.method == "CurrentTime"] == ["ok", "fault NoPermission"]
    assert center.server.count("CurrentTime") == 2


def test_tasks_take_time(lab):
    center = lab(Host("esx-01"))
    machine = center.create("a")
    center.server.task_delay_ms(60)
    begin = time.monotonic()
    task = machine.PowerOnVM_Task()
    assert time.monotonic() - begin < 0.05
    ended(task)
    assert time.monotonic() - begin >= 0.06


def test_others_change_things(lab):
    center = lab(Host("esx-01", ["T4"]), vms=[Vm("theirs", "esx-01", vgpus=["grid_t4-4q"], powered_on=True, folder="prod")])
    machine = found(center.content, vim.VirtualMachine, "theirs")
    assert machine.parent.name == "prod"
    center.server.rename_vm("theirs", "still-theirs")
    assert machine.name == "still-theirs"
    center.server.create_vm(Vm("new", "esx-01", vgpus=["grid_t4-4q"], powered_on=True, networks=["VM Network"]))
    assert [use.vm for use in center.server.gpus("esx-01")[0].uses] == ["still-theirs", "new"]
    assert found(center.content, vim.VirtualMachine, "new").network[0].name == "VM Network"
    center.server.delete_vm("new")
    center.server.power_off("still-theirs")
    assert center.placed() == [[]]
    with pytest.raises(StopIteration):
        found(center.content, vim.VirtualMachine, "new")
    with pytest.raises(ValueError, match='no VM "new"'):
        center.server.delete_vm("new")
