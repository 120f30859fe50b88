"""Many tasks at once: bounds, one wait, progress, faults kept, sessions that end while tasks run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyVmomi import vim
from vcenter import Host, VCenter, Vcsim

from partitioner.errors import SpecError
from vsphere.credentials import Credentials
from vsphere.errors import ConnectError, VSphereError
from vsphere.session import Session
from vsphere.tasks import Job, Outcome, Progress, carry_out

HOSTS = [f"esx-{number:02}" for number in range(5)]


@pytest.fixture
def center() -> Iterator[VCenter]:
    with VCenter(hosts=[Host(name, gpus=["T4"]) for name in HOSTS]) as running:
        yield running


@pytest.fixture
def session(center: VCenter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    with opened(center, monkeypatch) as running:
        yield running


def opened(server: Vcsim | VCenter, monkeypatch: pytest.MonkeyPatch, **more: float) -> Session:
    monkeypatch.setenv("VC_PASSWORD", server.password)
    where = Credentials.of(server.user, password_env="VC_PASSWORD")  # noqa: S106 - the name of a variable
    return Session.open(server.host, where, port=server.port, ca_file=server.ca_file, **more)  # type: ignore[arg-type]


class Site:
    """Where the tests make VMs."""

    def __init__(self, session: Session) -> None:
        self.center = session.content.rootFolder.childEntity[0]
        cluster = self.center.hostFolder.childEntity[0]
        self.folder, self.pool = self.center.vmFolder, cluster.resourcePool
        self.hosts = {host.name: host for host in cluster.host}
        self.datastore = cluster.datastore[0].name

    def create(self, name: str) -> Callable[[], Any]:
        spec = vim.vm.ConfigSpec(
            name=name, files=vim.vm.FileInfo(vmPathName=f"[{self.datastore}]"), numCPUs=1, memoryMB=64, guestId="otherGuest"
        )
        return lambda: self.folder.CreateVM_Task(spec, self.pool, None)

    def jobs(self, count: int, *, hosts: int = len(HOSTS)) -> list[Job]:
        return [Job(f"VM v{n}", self.create(f"v{n}"), host=HOSTS[n % hosts]) for n in range(count)]

    @property
    def names(self) -> list[str]:
        return sorted(child.name for child in self.folder.childEntity)


def good(outcomes: tuple[Outcome, ...]) -> int:
    return sum(outcome.begun and outcome.error is None for outcome in outcomes)


def test_results_in_the_order_of_the_jobs(session: Session) -> None:
    site = Site(session)
    outcomes = carry_out(session, site.jobs(30))
    assert [outcome.result.name for outcome in outcomes] == [f"v{n}" for n in range(30)]
    assert [outcome.job.who for outcome in outcomes] == [f"VM v{n}" for n in range(30)]
    assert carry_out(session, []) == ()


def test_unmodified_vcsim(monkeypatch: pytest.MonkeyPatch) -> None:
    with Vcsim() as server, opened(server, monkeypatch) as session:
        site = Site(session)
        outcomes = carry_out(session, site.jobs(20))
        assert good(outcomes) == 20
        outcome = carry_out(session, [Job("VM v0", outcomes[0].result.Destroy_Task)])[0]
        assert (outcome.error, outcome.result) == (None, None)


def test_calls_are_few(center: VCenter, session: Session) -> None:
    """One call for each task, and a handful for waiting, however many tasks there are."""
    site = Site(session)
    center.task_delay_ms(100)
    center.clear_calls()
    assert good(carry_out(session, site.jobs(60), per_host=100)) == 60
    assert center.count("CreateVM_Task") == 60
    assert center.count("WaitForUpdatesEx") + center.count("ModifyListView") <= 24
    assert center.count("RetrievePropertiesEx") <= 4
    assert center.count("DestroyView") == center.count("CreateListView") == 1
    assert center.count("DestroyPropertyCollector") == center.count("CreatePropertyCollector") == 1


def test_bounds(center: VCenter, session: Session) -> None:
    """Eight tasks of 60 ms on a host, two at a time, take four times as long as one; never more than three calls at once."""
    site, lock = Site(session), threading.Lock()
    calls = [0, 0]
    center.task_delay_ms(60)

    def counted(job: Job) -> Job:
        def begin() -> Any:
            with lock:
                calls[0] += 1
                calls[1] = max(calls)
            try:
                return job.begin()
            finally:
                with lock:
                    calls[0] -= 1

        return Job(job.who, begin, job.host)

    begin = time.perf_counter()
    outcomes = carry_out(session, [counted(job) for job in site.jobs(16, hosts=2)], in_flight=3, per_host=2)
    assert good(outcomes) == 16
    assert time.perf_counter() - begin > 4 * 0.06
    assert 1 <= calls[1] <= 3
    with pytest.raises(SpecError, match="per_host is 0"):
        carry_out(session, [], per_host=0)


def test_one_at_a_time_for_each_host_keeps_the_order(session: Session) -> None:
    site = Site(session)
    seen: list[str] = []

    def noted(job: Job) -> Job:
        def begin() -> Any:
            seen.append(job.who)
            return job.begin()

        return Job(job.who, begin, job.host)

    carry_out(session, [noted(job) for job in site.jobs(20, hosts=2)], per_host=1)
    for host in range(2):
        assert [who for who in seen if int(who[4:]) % 2 == host] == [f"VM v{n}" for n in range(host, 20, 2)]


def test_progress(center: VCenter, session: Session) -> None:
    center.fail("CreateVM_Task", at=2, of="task", fault="vim.fault.NoDiskSpace")
    told: list[Progress] = []
    threads = set()

    def tell(progress: Progress) -> None:
        told.append(progress)
        threads.add(threading.current_thread())

    carry_out(session, Site(session).jobs(6), progress=tell)
    assert threads == {threading.current_thread()}
    by_state = {state: sum(entry.state == state for entry in told) for state in ("begun", "done", "failed")}
    assert by_state == {"begun": 6, "done": 5, "failed": 1}
    assert [entry.finished for entry in told] == sorted(entry.finished for entry in told)
    assert (told[-1].finished, told[-1].total) == (6, 6)


@pytest.mark.parametrize("of", ["call", "task"])
def test_fault_of_one_is_kept_and_the_others_go_on(center: VCenter, session: Session, of: Any) -> None:
    center.fail("CreateVM_Task", at=3, of=of, fault="vim.fault.NoDiskSpace", message="no room", fields={"datastore": "ds"})
    outcomes = carry_out(session, Site(session).jobs(10))
    (failed,) = [outcome for outcome in outcomes if outcome.error is not None]
    assert good(outcomes) == 9
    assert isinstance(failed.error, VSphereError)
    assert isinstance(failed.error.fault, vim.fault.NoDiskSpace)
    assert str(failed.error).startswith(f"{failed.job.who}: no room")


def test_stop_on_error(center: VCenter, session: Session) -> None:
    center.fail("CreateVM_Task", at=1, of="call", fault="vim.fault.InvalidName")
    outcomes = carry_out(session, Site(session).jobs(10), in_flight=1, stop_on_error=True)
    assert outcomes[0].error is not None
    assert [outcome.begun for outcome in outcomes] == [True] + [False] * 9
    assert center.count("CreateVM_Task") == 1


def test_lost_answer_is_not_taken_for_a_failure_to_do(center: VCenter, session: Session) -> None:
    """Whether the VM was made is not known: the error says so, and nothing is made twice."""
    site = Site(session)
    center.drop("CreateVM_Task", when="after", at=2)
    outcomes = carry_out(session, site.jobs(4), in_flight=1)
    (failed,) = [outcome for outcome in outcomes if outcome.error is not None]
    assert isinstance(failed.error, ConnectError)
    assert "whether it was done is not known" in str(failed.error)
    assert site.names == ["v0", "v1", "v2", "v3"]
    assert center.count("CreateVM_Task") == 4


def test_session_that_ends_while_tasks_run(center: VCenter, session: Session) -> None:
    site = Site(session)
    center.task_delay_ms(400)
    timer = threading.Timer(0.15, center.expire_sessions)
    timer.start()
    outcomes = carry_out(session, site.jobs(12), per_host=4)
    timer.join()
    assert good(outcomes) == 12
    assert session.logins == 2
    assert len(site.names) == 12


def test_connection_that_breaks_while_tasks_run(center: VCenter, session: Session) -> None:
    site = Site(session)
    center.task_delay_ms(150)
    center.drop("WaitForUpdatesEx", when="before", times=2)
    assert good(carry_out(session, site.jobs(8))) == 8


def test_vcenter_that_is_gone(center: VCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting ends with a typed error, soon, and no thread stays behind."""
    with opened(center, monkeypatch, patience_s=0.2) as session:
        site = Site(session)
        center.task_delay_ms(5000)
        timer = threading.Timer(0.2, center.stop)
        timer.start()
        begin = time.perf_counter()
        with pytest.raises(ConnectError):
            carry_out(session, site.jobs(5))
        timer.join()
        assert time.perf_counter() - begin < 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vsphere-tasks")]


def test_task_that_takes_too_long(center: VCenter, session: Session) -> None:
    center.task_delay_ms(2500)
    outcome = carry_out(session, Site(session).jobs(1), timeout_s=0.5)[0]
    assert isinstance(outcome.error, VSphereError)
    assert "did not end within 0.5 s; it goes on in vCenter" in str(outcome.error)


def test_error_of_our_own_is_raised(session: Session) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("a mistake in the program")

    site = Site(session)
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        carry_out(session, [*site.jobs(3), Job("x", broken), *site.jobs(0)])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vsphere-tasks")]


def test_interrupt_by_the_user(center: VCenter, session: Session) -> None:
    center.task_delay_ms(200)
    begun: list[str] = []

    def stop(progress: Progress) -> None:
        begun.append(progress.who)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(session, Site(session).jobs(40, hosts=1), per_host=1, progress=stop)
    assert center.count("CreateVM_Task") <= 2
