"""Many hosts through Ray: real clusters of two nodes on this machine, emulated servers, and the loss of agents and nodes."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ray_cluster import RayCluster, until

from benchmarks import Scenario, run
from benchmarks.errors import BenchmarkError, IncomparableError, LoadGeneratorError, ServerError
from benchmarks.load.values import Load, Rules
from benchmarks.models.model import model
from benchmarks.runner.agent import AgentTask
from benchmarks.runner.ray_agents import HostError
from benchmarks.runner.ray_hosts import RayHosts
from benchmarks.servers import ServerTask
from benchmarks.servers.emulated_device import EmulatedDevice
from partitioner.errors import SpecError

OURS = ("benchmarks.worker", "guard.py", "benchmarks.servers.emulated")
"""In the commands of what agents start."""
AGENT = "ray::Resident"
RAY = ("raylet", "ray::", "ray.scripts", "log_monitor")


@pytest.fixture(scope="module")
def cluster():
    with RayCluster() as cluster:
        cluster.start("a")
        cluster.start("b")
        cluster.wait()
        yield cluster


def agent(name, *, kind="emulated", **settings):
    """The task of an agent with an emulated server."""
    resnet50 = model("resnet50")
    emulation = (
        {} if kind == "external" else {"emulation": json.loads(EmulatedDevice.of(resnet50, "A100-80GB", "1g.10gb").to_json())}
    )
    return AgentTask(name, ServerTask(name, kind, resnet50, **emulation, **settings), "triton", resnet50, "asyncio")


def over(*hosts):
    """3g+3g, one half on each host."""
    scenario = Scenario.parse("3g+3g")
    return replace(scenario, instances=tuple(replace(i, host=host) for i, host in zip(scenario.instances, hosts, strict=True)))


def test_agents_are_placed_called_and_lost(cluster, monkeypatch):
    a = cluster.nodes["a"]
    with closing(RayHosts(cluster.address)) as hosts:
        with pytest.raises(SpecError, match="no node of the Ray cluster"):
            hosts.place(agent("nowhere"), host="nowhere")

        refused = hosts.place(agent("refused", kind="external", address="127.0.0.1:1", timeout_s=0.1), host="a")
        with pytest.raises(ServerError, match=r"refused at 127.0.0.1:1 - takes no connections"):
            refused.start()
        with pytest.raises(LoadGeneratorError, match="no load generator was prepared"):
            refused.poll()
        refused.stop()
        refused.stop()  # again, as a crew does

        impossible = hosts.place(replace(agent("impossible"), cpu_slice=(2.0, 1.0)), host="a")
        with pytest.raises(BenchmarkError, match=r"impossible on host a - the agent cannot be made: .*slice of the CPU"):
            impossible.start()
        with pytest.raises(BenchmarkError, match="the agent cannot be made"):
            impossible.stop()  # and makes room all the same

        spread = [hosts.place(agent(f"spread {i}")) for i in range(4)]
        assert sorted(handle.host for handle in spread) == ["a", "a", "b", "b"]
        assert list(hosts.describe()) == ["a", "b"]
        for handle in spread:
            handle.stop()

        handle = hosts.place(agent("one"), host="a")
        facts = handle.start()
        assert "emulated" in " ".join(facts.values())
        (server,) = a.running("benchmarks.servers.emulated ")[-1:]
        assert b"OMP_NUM_THREADS=" not in Path(f"/proc/{server}/environ").read_bytes()
        ready = handle.prepare(Load("offline", Rules(min_duration_s=0.2)), 0.1)
        assert ready.warm_per_s > 0
        handle.begin(handle.clock() + 0.1)
        until(lambda: handle.poll()[1])
        assert len(handle.outcome().log) > 0
        assert handle.server_died() is None
        (process,) = a.running(AGENT)
        assert a.running(*OURS)
        os.kill(process, signal.SIGSTOP)  # a host that hangs
        monkeypatch.setattr("benchmarks.runner.ray_agents._CALL_S", 0.3)
        with pytest.raises(HostError, match=r"one on host a - no answer to 'poll' in 0.3 s"):
            handle.poll()
        with pytest.raises(HostError, match="no answer to 'poll'"):  # known from then on
            handle.outcome()
        os.kill(process, signal.SIGCONT)
        handle.stop()
        until(lambda: not a.running(AGENT, *OURS))

        handle = hosts.place(agent("two"), host="a")
        handle.start()
        a.kill(AGENT)
        with pytest.raises(HostError, match="two on host a - it was lost"):
            until(lambda: handle.poll()[1])
        until(lambda: not a.running(*OURS))


def test_nothing_is_left_when_the_user_is_killed(cluster):
    program = f"""
from benchmarks import run
from benchmarks.runner.ray_agents import HostError
from benchmarks.runner.ray_hosts import RayHosts
run("3g+3g", servers="emulated", repeats=1, duration_s=600, warmup_s=0.2, hosts=RayHosts({cluster.address!r}))
"""
    a, b = cluster.nodes.values()
    with subprocess.Popen([sys.executable, "-c", program]) as user:
        until(lambda: (a.running("benchmarks.worker") and b.running("benchmarks.worker")) or user.poll() is not None)
        user.kill()
    assert user.returncode == -signal.SIGKILL
    until(lambda: not a.running(AGENT, *OURS) and not b.running(AGENT, *OURS))


def test_a_run_over_two_nodes_of_which_one_is_lost(cluster, capfd):
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    told = []

    def lose(progress):
        told.append(progress.text)
        if "repeat 2" in progress.text and b.running("benchmarks.worker") and a.running("benchmarks.worker") and a.running(AGENT):
            b.kill(*RAY)

    with closing(RayHosts(cluster.address)) as hosts:
        terminated = signal.getsignal(signal.SIGTERM)
        result = run(over("a", "b"), servers="emulated", repeats=3, duration_s=1.5, warmup_s=0.2, hosts=hosts, progress=lose)
        described = dict(result.metadata.host)
    assert capfd.readouterr() == ("", "")  # the terminal is the user's
    both, lost, after = result.repeats
    print(f"common start of two nodes: skew {both.start_skew_ms:.3f} ms, overlap {both.overlap:.3f}")

    assert both.valid, both
    assert [run.host for run in both.instances] == ["a", "b"]
    assert all(run.throughput_per_s > 100 for run in both.instances)
    assert both.overlap > 0.5
    assert both.start_skew_ms < 1000
    assert list(described) == ["a", "b"]

    for repeat in (lost, after):
        on_a, on_b = repeat.instances
        assert on_a.valid, on_a.reasons
        assert on_a.throughput_per_s > 100
        assert not on_b.valid
        assert "3g.40gb#2 on host b - " in on_b.reasons[0]
        assert not repeat.valid
    until(lambda: not b.running(*OURS))
    until(lambda: not a.running(*OURS, AGENT))
    assert signal.getsignal(signal.SIGTERM) is terminated


def test_a_host_without_the_package(tmp_path):
    hidden = "import sys\nsys.modules['benchmarks'] = sys.modules['partitioner'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    with RayCluster() as cluster:
        cluster.start("bare", PYTHONPATH=str(tmp_path))
        with closing(RayHosts(cluster.address)) as hosts:
            for ask in (hosts.describe, lambda: hosts.place(agent("one"))):
                with pytest.raises(BenchmarkError, match=r"host bare - gpu-partitioner cannot be imported there .*pip install"):
                    ask()


def test_no_cluster_answers():
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        for scheme in ("", "ray://"):
            with pytest.raises(BenchmarkError, match=r"does not answer: .*ray start --head"):
                RayHosts(f"{scheme}127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize("address", ["ray://", "head:", ":6379", "head:ray"])
def test_an_address_that_is_none(address):
    with pytest.raises(SpecError, match=r"that is no address; right would be auto, host:6379 or ray://host:10001"):
        RayHosts(address)


def test_ray_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BenchmarkError, match=r"pip install 'gpu-partitioner\[bench,ray\]'"):
        RayHosts()


def test_ray_is_imported_when_it_is_used_first():
    program = "import sys, benchmarks.runner.ray_hosts; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "error",
    [
        BenchmarkError("x"),
        HostError("x"),
        SpecError("x"),
        ServerError("x", ["one", "two"]),
        IncomparableError("x", ["one"]),
    ],
)
def test_errors_come_from_other_processes_as_they_are(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
