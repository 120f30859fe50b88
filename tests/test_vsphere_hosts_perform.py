"""Hosts prepared over real sockets: the extended vCenter for settings and restarts, a real sshd for MIG mode."""

import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pyVmomi import vim
from sshd import EsxiShell, SmiCard
from sshd.server import access
from vcenter import Gpu, Host, VCenter, Vcsim, Vm

from partitioner import StateFolder, catalog
from partitioner.errors import DriftError, InUseError, StepError, TargetError
from vsphere import inventory
from vsphere.credentials import Credentials
from vsphere.errors import PrivilegeError, VSphereError
from vsphere.hosts import HostJournal, Limits, perform, plan_host_steps, read_shells, read_software
from vsphere.hosts.errors import RefusedError, UnreachableError, WaitError
from vsphere.hosts.live import read_host
from vsphere.hosts.waits import enter_maintenance, exit_maintenance
from vsphere.session import Session

ENV = "VC_PASSWORD"
LIMITS = Limits(maintenance_s=10, reboot_s=10, settle_s=5, poll_s=0.01, jitter_s=0)
CHANGING = {
    "UpdateGraphicsConfig",
    "UpdatePassthruConfig",
    "EnterMaintenanceMode_Task",
    "ExitMaintenanceMode_Task",
    "RebootHost_Task",
    "ReconnectHost_Task",
}


class Site:
    """A vCenter, the shells of its hosts, a session and a state folder."""

    def __init__(self, center, session, shells, state):
        self.center, self.session, self.shells, self.state = center, session, shells, state
        self.access = access(shells) if shells else None

    def read(self):
        return inventory.read(self.session)

    def plan(self, goal, **rest):
        found = self.read()
        entered = HostJournal(self.state).entered(found.vcenter)
        return plan_host_steps(found, goal, entered=entered, shell=self.access is not None, **rest)

    def perform(self, changes, **rest):
        parts = {"access": self.access, "state": self.state, "limits": LIMITS}
        return perform(changes, self.session, **(parts | rest))

    def prepare(self, goal, **rest):
        return self.perform(self.plan(goal), **rest)

    def modes(self, host="esx-01"):
        return [card.mode for card in self.center.gpus(host)]

    def in_maintenance(self, host="esx-01"):
        return self.read().host[host].in_maintenance

    def changed(self):
        """Return the calls that change something, with the object."""
        return [(call.method, call.object) for call in self.center.calls() if call.method in CHANGING]


@pytest.fixture
def site(tmp_path, monkeypatch):
    with ExitStack() as stack:

        @contextmanager
        def opened(center, *, shells):
            monkeypatch.setenv(ENV, center.password)
            way = Credentials.of(center.user, password_env=ENV)
            with ExitStack() as inner:
                session = inner.enter_context(Session.open(center.host, way, port=center.port, ca_file=center.ca_file))
                found = inventory.read(session) if shells else None
                running = [
                    inner.enter_context(EsxiShell(host.name, cards(center, host.name), control_url=center.control_url))
                    for host in (found.hosts if found else ())
                ]
                yield Site(center, session, running, StateFolder(tmp_path / "state"))

        def start(*hosts, vms=(), shells=True, **rest):
            center = stack.enter_context(VCenter(hosts=hosts, vms=vms, **rest))
            return stack.enter_context(opened(center, shells=shells))

        yield start


def cards(center, host):
    """Return a host's GPUs as its shell has them."""
    found = []
    for card in center.gpus(host):
        model = catalog.gpu(card.model)
        on = (card.mode == "mig") if "mig" in model.modes else None
        found.append(SmiCard(card.pci_id, model.record.product_names[0], on, on, model.record.architecture == "Ampere"))
    return found


# -- from every state to every mode ------------------------------------------------------------------------------------------

STATES = ("vgpu", "vgpu-mixed", "mig", "shared", "passthrough")
MODES = {"vgpu-equal": "vgpu", "vgpu-mixed": "vgpu-mixed", "mig": "mig", "whole": "passthrough"}


def mode_of(model, word):
    """Return the catalogue's mode of that kind; None where the model has none."""
    return next((mode for mode in catalog.gpu(model).modes if mode.startswith(word)), None)


@pytest.mark.parametrize("model", ["A100-80GB", "H100-80GB", "T4"])
@pytest.mark.parametrize("state", STATES)
def test_from_this_state_to_every_mode(site, model, state):
    words = [word for word in MODES if mode_of(model, word)]
    if MODES.get(state, state) == "mig" and "mig" not in words:
        return
    if state == "vgpu-mixed" and "vgpu-mixed" not in words:
        return
    names = [f"esx-{number}" for number in range(len(words))]
    there = site(*[Host(name, gpus=[Gpu(model, state), Gpu(model, "vgpu")], default_graphics="shared") for name in names])
    goal = {(name, 0): mode_of(model, word) for name, word in zip(names, words, strict=True)}
    there.prepare(goal)
    for name, word in zip(names, words, strict=True):
        assert there.modes(name) == [MODES[word], "vgpu"], (name, word)  # and the other GPU as it was
        assert not there.in_maintenance(name)
    assert not there.plan(goal), str(there.plan(goal))


# -- what is called ----------------------------------------------------------------------------------------------------------


def test_a_fresh_host_becomes_mig_with_one_call_of_each_kind_and_one_restart(site):
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB", "shared")] * 4, default_graphics="shared"))
    report = there.prepare({("esx-01", index): "mig" for index in range(4)})
    assert [method for method, _ in there.changed()] == [
        "EnterMaintenanceMode_Task",
        "UpdateGraphicsConfig",
        "RebootHost_Task",
        "ExitMaintenanceMode_Task",
    ]
    assert there.modes() == ["mig"] * 4
    assert [outcome for _, outcome in report.outcomes].count("done") == len(report.outcomes)
    said = [call for call in there.shells[0].calls() if "-mig" in call]
    assert said == [["nvidia-smi", "-i", f"00000000:{bus}:00.0", "-mig", "1"] for bus in ("3B", "4B", "5B", "6B")]
    assert there.read().host["esx-01"].assignment_policy == "consolidation"


def test_time_slicing_restarts_the_services_and_not_the_host(site):
    there = site(Host("esx-01", gpus=[Gpu("T4", "shared")] * 2, default_graphics="shared"))
    report = there.prepare({("esx-01", 0): "vgpu-equal-8", ("esx-01", 1): "vgpu-equal-4"})
    assert there.modes() == ["vgpu", "vgpu"]
    assert "RebootHost_Task" not in dict(there.changed())
    assert [call for call in there.shells[0].calls() if call[0] == "nv-hostengine"] == [
        ["nv-hostengine", "-t"],
        ["nv-hostengine", "-d"],
    ]
    assert "      done  ! esx-01: restart services" in str(report)


def test_types_that_wait_for_the_host_are_said_and_then_restarted(site):
    there = site(Host("esx-01", gpus=[Gpu("T4", "shared")], default_graphics="shared", graphics_needs_reboot=True))
    goal = {("esx-01", 0): "vgpu-equal-8"}
    with pytest.raises(StepError, match=r"graphics type of 0000:3b:00\.0 \(plan it with restart='host'\)") as caught:
        there.prepare(goal, limits=replace(LIMITS, settle_s=0.1))
    assert isinstance(caught.value.__cause__, WaitError)
    assert [step.kind for step in caught.value.remaining] == ["restart services", "exit maintenance"]
    again = there.plan(goal, restart="host")
    assert [step.kind for step in again] == ["vgpu mode", "reboot", "exit maintenance"]
    there.perform(again)
    assert there.modes() == ["vgpu"]
    assert not there.plan(goal)
    assert not there.in_maintenance()


def test_a_restart_for_which_nothing_waits_is_left_out(site):
    there = site(Host("esx-01", gpus=[Gpu("T4", "vgpu")]))
    report = there.prepare({("esx-01", 0): "whole"})
    assert there.modes() == ["passthrough"]  # ESXi can switch it at once
    assert {step.kind: outcome for step, outcome in report.outcomes}["reboot"] == "not needed"
    assert "RebootHost_Task" not in dict(there.changed())


def test_mig_on_hopper_leaves_the_vms_of_other_gpus_alone(site):
    there = site(
        Host("esx-01", gpus=[Gpu("H100-80GB", "mig"), Gpu("H100-80GB")]),
        vms=[Vm("theirs", host="esx-01", vgpus=["nvidia_h100-3-40c"], powered_on=True)],
    )
    there.prepare({("esx-01", 1): "mig"})
    assert there.modes() == ["mig", "mig"]
    assert [method for method, _ in there.changed()] == ["UpdateGraphicsConfig"]  # the policy
    assert there.read().vms[0].powered_on


def test_a_restart_of_the_host_does_not_cost_other_gpus_their_mig_mode(site):
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB"), Gpu("H100-80GB", "mig"), Gpu("H100-80GB", "vgpu")]))
    there.prepare({("esx-01", 0): "mig"})
    assert there.modes() == ["mig", "mig", "vgpu"]


def test_hosts_that_are_not_in_the_plan_are_not_touched(site):
    there = site(*[Host(f"esx-0{n}", gpus=[Gpu("A100-80GB", "shared")], default_graphics="shared") for n in (1, 2, 3)])
    moids = {host.moid: host.name for host in there.read().hosts}
    there.prepare({("esx-01", 0): "mig", ("esx-03", 0): "mig"})
    assert [there.modes(f"esx-0{n}")[0] for n in (1, 2, 3)] == ["mig", "shared", "mig"]
    touched = [next(name for moid, name in moids.items() if obj.endswith(moid)) for _, obj in there.changed()]
    assert touched == sorted(touched)  # one host after the other
    assert set(touched) == {"esx-01", "esx-03"}
    assert there.shells[1].calls() == []


# -- what stands against it ----------------------------------------------------------------------------------------------------


def test_a_running_vm_is_named_and_stays(site):
    there = site(Host("esx-01", gpus=["A100-80GB"]), vms=[Vm("theirs", host="esx-01", powered_on=True)])
    changes = there.plan({("esx-01", 0): "mig"})
    with pytest.raises(RefusedError, match="nothing was begun\nesx-01: must be empty, and VM 'theirs'") as caught:
        there.perform(changes)
    assert len(caught.value.reasons) == 1
    assert there.changed() == []


def test_a_vm_that_came_after_the_plan_is_named_and_stays(site):
    there = site(Host("esx-01", gpus=["A100-80GB"]))
    changes = there.plan({("esx-01", 0): "mig"})
    there.center.create_vm(Vm("late", host="esx-01", powered_on=True))
    with pytest.raises(StepError, match=r"must be empty, and 'late' \(vm-\d+\) run on it") as caught:
        there.perform(changes)
    assert isinstance(caught.value.__cause__, InUseError)
    assert there.changed() == []
    assert there.read().vms[0].powered_on


def test_a_vm_that_came_onto_an_idle_gpu_after_the_plan(site):
    there = site(Host("esx-01", gpus=["H100-80GB"], policy="consolidation"))
    changes = there.plan({("esx-01", 0): "mig"})
    there.center.create_vm(Vm("late", host="esx-01", vgpus=["nvidia_h100-40c"], powered_on=True))
    with pytest.raises(StepError, match=r"must be idle, and 'late' \(vm-\d+\) run on it"):
        there.perform(changes)
    assert all("-mig" not in call for call in there.shells[0].calls())


def test_missing_privileges_are_found_before_anything_begins(site):
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB", "shared")]))
    there.center.deny("Host.Config.Maintenance")
    with pytest.raises(PrivilegeError, match=r"Host\.Config\.Maintenance"):
        there.prepare({("esx-01", 0): "mig"})
    assert there.changed() == []


def test_maintenance_mode_by_somebody_else_stays(site):
    there = site(Host("esx-01", gpus=["A100-80GB"], maintenance=True))
    there.prepare({("esx-01", 0): "mig"})
    assert there.modes() == ["mig"]
    assert there.in_maintenance()


def test_faults_of_vcenter_are_kept(site):
    there = site(Host("esx-01", gpus=["A100-80GB"]))
    there.center.fail("EnterMaintenanceMode_Task", "vim.fault.Timedout", of="task")
    with pytest.raises(StepError) as caught:
        there.prepare({("esx-01", 0): "mig"})
    assert isinstance(caught.value.__cause__, VSphereError)
    assert isinstance(caught.value.__cause__.fault, vim.fault.Timedout)
    there.prepare({("esx-01", 0): "mig"})
    assert there.modes() == ["mig"]
    assert not there.in_maintenance()


def test_a_host_that_did_not_enter_is_not_taken_for_ours_later(site):
    there = site(Host("esx-01", gpus=["A100-80GB"]))
    there.center.fail("EnterMaintenanceMode_Task", "vim.fault.Timedout", of="task")
    with pytest.raises(StepError):
        there.prepare({("esx-01", 0): "mig"})
    there.center.set_maintenance("esx-01", True)  # by its administrator
    there.prepare({("esx-01", 0): "mig"})
    assert there.modes() == ["mig"]
    assert there.in_maintenance()


def test_a_gpu_that_is_gone_since_the_plan(site):
    there = site(Host("esx-01", gpus=[Gpu("T4", "shared")]))
    for kind in ("vgpu-equal-8", "whole"):
        changes = there.plan({("esx-01", 0): kind})
        (host,) = changes.hosts
        steps = tuple(replace(step, pci_id="0000:99:00.0") if step.pci_id else step for step in host.steps)
        with pytest.raises(StepError, match=r"no (GPU|device) at 0000:99:00\.0 any more") as caught:
            there.perform(replace(changes, hosts=(replace(host, steps=steps),)))
        assert isinstance(caught.value.__cause__, DriftError)
        assert there.modes() == ["shared"]


def test_before_api_8_0_3_mig_mode_is_known_from_the_shell(site):
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB", "shared")], default_graphics="shared"), api_version="7.0.3.0")
    goal = {("esx-01", 0): "mig"}
    there.prepare(goal)
    assert there.modes() == ["mig"]
    facts, _ = read_shells(there.access, ["esx-01"])
    assert not there.plan(goal, facts=facts)


def test_the_shell_does_not_answer_and_a_second_run_does_the_rest(site):
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB", "shared")]))
    goal = {("esx-01", 0): "mig"}
    there.shells[0].stop()
    with pytest.raises(StepError, match="no connection by SSH") as caught:
        there.prepare(goal)
    assert isinstance(caught.value.__cause__, UnreachableError)
    assert [step.kind for step in caught.value.done] == ["enter maintenance", "policy", "graphics type"]
    assert there.in_maintenance()
    there.shells[0].start()
    there.access = access(there.shells)
    there.prepare(goal)
    assert there.modes() == ["mig"]
    assert not there.in_maintenance()


def test_a_host_that_does_not_come_back_in_time_and_a_second_run(site):
    there = site(Host("esx-01", gpus=["A100-80GB"], reboot_s=0.6))
    goal = {("esx-01", 0): "mig"}
    with pytest.raises(StepError, match=r"after its restart: after 0\.1 s it (is notResponding|has not gone down yet)") as caught:
        there.prepare(goal, limits=replace(LIMITS, reboot_s=0.1))
    assert isinstance(caught.value.__cause__, TargetError)
    assert "is not connected" in there.plan(goal).refusals[0]
    moid = there.read().hosts[0].moid
    for _ in range(1000):
        if read_host(there.session, moid, "esx-01").connected:
            break
    there.prepare(goal)
    assert there.modes() == ["mig"]
    assert not there.in_maintenance()
    assert there.center.count("RebootHost_Task") == 1


def test_the_lock_keeps_two_runs_apart(site):
    there = site(Host("esx-01", gpus=["A100-80GB"]))
    changes = there.plan({("esx-01", 0): "mig"})
    with there.state.lock(), pytest.raises(TargetError, match="another apply is under way"):
        there.perform(changes)
    assert there.changed() == []


# -- ended in the middle --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What no code catches, as a kill."""


STEPS = 9  # from passthrough to MIG, with two restarts


@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_a_run_that_ends_after_any_step_is_finished_by_the_next(site, at):
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB", "passthrough"), Gpu("T4")], default_graphics="shared"))
    goal = {("esx-01", 0): "mig"}
    seen = []

    def stop(step, outcome):
        seen.append(outcome)
        if len(seen) == at:
            raise Killed

    assert len(there.plan(goal)) == STEPS
    with pytest.raises(Killed):
        there.prepare(goal, progress=stop)
    there.prepare(goal)
    assert there.modes() == ["mig", "vgpu"]
    assert not there.in_maintenance()
    assert not there.plan(goal)
    assert HostJournal(there.state).entered(there.read().vcenter) == frozenset()
    assert there.center.count("RebootHost_Task") <= 2


def test_mig_mode_of_gpus_outside_of_the_plan_comes_back_also_after_a_kill(site):
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB"), Gpu("H100-80GB", "mig"), Gpu("H100-80GB", "vgpu")]))
    goal = {("esx-01", 0): "mig"}

    def stop(step, outcome):
        if step.kind == "reboot":
            raise Killed

    with pytest.raises(Killed):
        there.prepare(goal, progress=stop)
    assert there.modes() == ["mig", "vgpu", "vgpu"]
    there.prepare(goal)
    assert there.modes() == ["mig", "mig", "vgpu"]
    there.center.set_mig("esx-01", 1, False)  # by its administrator, later
    there.prepare(goal)
    assert there.modes() == ["mig", "vgpu", "vgpu"]


PREPARE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from partitioner import StateFolder
from vsphere import inventory
from vsphere.credentials import Credentials
from vsphere.hosts import HostJournal, Limits, SshAccess, perform, plan_host_steps
from vsphere.session import Session

limits = Limits(maintenance_s=10, reboot_s=10, settle_s=5, poll_s=0.01, jitter_s=0)
state = StateFolder({state!r})
access = SshAccess(Path({known!r}), {user!r}, Path({key!r}), addresses={addresses!r})
way = Credentials.of({account!r}, password_env="VC_PASSWORD")
with Session.open({host!r}, way, port={port}, ca_file={ca_file!r}) as session:
    found = inventory.read(session)
    entered = HostJournal(state).entered(found.vcenter)
    changes = plan_host_steps(found, {{("esx-01", 0): "mig"}}, entered=entered)
    print("planned", flush=True)
    perform(changes, session, access=access, state=state, limits=limits, progress=lambda *_: print("step", flush=True))
"""


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_a_run_that_is_killed_is_finished_by_the_next(site, after):
    """SIGKILL, somewhere in the step after so many."""
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB", "passthrough")], default_graphics="shared"))
    center, way = there.center, there.access
    code = PREPARE.format(
        tests=str(Path(__file__).parent),
        state=str(there.state.path),
        known=str(way.known_hosts),
        user=way.user,
        key=str(way.identity_file),
        addresses=dict(way.addresses),
        account=center.user,
        host=center.host,
        port=center.port,
        ca_file=center.ca_file,
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        for _ in range(after + 1):
            assert process.stdout.readline()
        time.sleep(0.05)
        process.kill()
    assert process.returncode == -9
    moid = there.read().hosts[0].moid
    for _ in range(1000):  # a restart that was begun goes on
        if read_host(there.session, moid, "esx-01").connected:
            break
    goal = {("esx-01", 0): "mig"}
    there.prepare(goal)
    assert there.modes() == ["mig"]
    assert not there.in_maintenance()
    assert not there.plan(goal)


@pytest.mark.parametrize("method", sorted(CHANGING - {"ReconnectHost_Task"}))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_breaks_at_a_change(site, method, when):
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB", "passthrough")], default_graphics="shared"))
    goal = {("esx-01", 0): "mig"}
    there.center.drop(method, when=when)
    with pytest.raises(StepError):
        there.prepare(goal)
    there.center.clear_faults()
    moid = there.read().hosts[0].moid
    for _ in range(1000):  # a restart whose answer was lost goes on
        if read_host(there.session, moid, "esx-01").connected:
            break
    there.prepare(goal)
    assert there.modes() == ["mig"]
    assert not there.in_maintenance()
    assert not there.plan(goal)


# -- by hand --------------------------------------------------------------------------------------------------------------------


def test_without_a_shell_it_stops_for_a_person_and_goes_on_afterwards(site):
    there = site(Host("esx-01", gpus=[Gpu("A100-80GB", "shared")]), Host("esx-02", gpus=["A100-80GB"]), shells=False)
    goal = {("esx-01", 0): "mig", ("esx-02", 0): "mig"}
    report = there.prepare(goal)
    assert [step.kind for step in report.done] == ["enter maintenance", "policy", "graphics type"]
    assert [(step.host, step.kind) for step in report.by_hand][:3] == [
        ("esx-01", "mig"),
        ("esx-01", "reboot"),
        ("esx-01", "exit maintenance"),
    ]
    assert "      left  ! esx-01/gpu0 (A100-80GB): MIG mode unknown -> on by hand" in str(report)
    assert not there.in_maintenance("esx-02")
    for name in ("esx-01", "esx-02"):
        there.center.set_mig(name, 0, True)
        there.center.reboot_host(name)
    for host in there.read().hosts:
        for _ in range(1000):
            if read_host(there.session, host.moid, host.name).connected:
                break
    there.prepare(goal)
    assert not there.in_maintenance("esx-01")
    assert not there.plan(goal)


def test_services_cannot_be_restarted_without_a_shell(site):
    there = site(Host("esx-01", gpus=[Gpu("T4", "shared")]))
    changes = there.plan({("esx-01", 0): "vgpu-equal-8"})
    with pytest.raises(RefusedError, match="plan without shell"):
        there.perform(changes, access=None)
    assert there.changed() == []


# -- software, and the unmodified simulator ------------------------------------------------------------------------------------


def test_software_from_the_shell_else_from_vcenter(site):
    there = site(Host("esx-01", gpus=["A100-80GB"]), Host("esx-02", gpus=["T4"]))
    facts, errors = read_shells(there.access, ["esx-01"])
    assert errors == {}
    one, two = read_software(there.read().hosts, session=there.session, facts=facts)
    driver, daemon = "550.90.05-1OEM.800.1.0.20613240", "550.90.05-1OEM.700.1.0.15843807"
    assert str(one) == f"esx-01: NVD-AIE_ESXi_8.0.0_Driver {driver}, nvdgpumgmtdaemon {daemon}; driver 550.90.05"
    assert two.driver is None
    assert str(two).startswith("esx-02: NVD-AIE_ESXi_8.0.0_Driver 550.90.05-")
    assert "driver version takes its shell" in str(two)
    there.center.fail("fetchSoftwarePackages", "vmodl.fault.NotSupported")
    (silent,) = read_software(there.read().hosts[1:], session=there.session)
    assert silent.vibs is None
    assert "esx-02: NVIDIA software unknown: vCenter does not say" in str(silent)


def test_the_unmodified_simulator_understands_the_calls_that_it_has(monkeypatch):
    with Vcsim(clusters=1, hosts_per_cluster=1, standalone_hosts=0, vms=2) as center:
        monkeypatch.setenv(ENV, center.password)
        way = Credentials.of(center.user, password_env=ENV)
        with Session.open(center.host, way, port=center.port, ca_file=center.ca_file) as session:
            (host,) = inventory.read(session).hosts
            now = read_host(session, host.moid, host.name)
            assert (now.connected, now.in_maintenance, len(now.running)) == (True, False, 2)
            with pytest.raises(InUseError, match="must be empty"):
                enter_maintenance(session, host.moid, now, migrate=False, limits=LIMITS)
            enter_maintenance(session, host.moid, replace(now, running=()), migrate=False, limits=LIMITS)
            there = read_host(session, host.moid, host.name)
            assert there.in_maintenance
            exit_maintenance(session, host.moid, there, limits=LIMITS)
            assert not read_host(session, host.moid, host.name).in_maintenance
            with pytest.raises(VSphereError, match=r"is gone|ManagedObjectNotFound"):
                read_host(session, "host-99999", "esx-99")
