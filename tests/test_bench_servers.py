"""Servers: real tritonservers on this machine's CPU, started, looked at, broken in every way, and gone afterwards."""

import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvml import Card, Machine

from benchmarks.errors import ServerError
from benchmarks.models.graphs import graph_file
from benchmarks.models.model import echo_of, model
from benchmarks.models.samples import samples
from benchmarks.servers import (
    ServerTask,
    cores_of_share,
    server_for,
    shared,
    split_cores,
    threads_for,
    tritonserver,
    usable_cores,
)
from benchmarks.servers.cores import cores_beside, parse_cpulist
from benchmarks.servers.emulated_device import EmulatedDevice
from benchmarks.servers.find import VARIABLE, Tritonserver, find_tritonserver
from benchmarks.servers.ports import free_ports, split_address
from benchmarks.servers.reasons import reason
from benchmarks.servers.repository import Serving, check_repository, write_repository
from benchmarks.servers.tritonserver import TritonServer
from partitioner.errors import SpecError

ECHO, BERT = model("echo"), model("bert-tiny")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


def task(kind="triton", of=ECHO, **options):
    return ServerTask("1g.10gb#2", kind, of, **{"timeout_s": 60.0, **options})


def until(condition, *, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def processes_with(word):
    """Ids of the processes that have a word in their command line, without this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in line:
                found.append(int(entry.name))
    return found


def segments(pid):
    return [path.name for path in SHARED_MEMORY.glob(f"gpu-partitioner-triton-{pid}-*")]


def ask(address, path, body=None):
    """Status and answer of a request over HTTP."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("POST" if body else "GET", path, body=json.dumps(body) if body else None)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


def infer(address, of, values):
    """The outputs of a model to some inputs, by name."""
    inputs = [
        {"name": t.name, "datatype": t.datatype, "shape": values[t.name].shape, "data": values[t.name].ravel().tolist()}
        for t in of.inputs
    ]
    status, answer = ask(address, f"/v2/models/{of.name}/infer", {"inputs": inputs})
    assert status == 200, answer
    return {output["name"]: np.array(output["data"], np.float32).reshape(output["shape"]) for output in answer["outputs"]}


def script(tmp_path, text, *, name="tritonserver"):
    """A tritonserver that does something else first, or instead."""
    path = tmp_path / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return replace(find_tritonserver(), binary=path)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Graphs are built into a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv(VARIABLE, raising=False)
        yield


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tritonserver with bert-tiny and its echo twin, two copies, on two cores at most."""
    folder = tmp_path_factory.mktemp("bert")
    with TritonServer(task(of=BERT, folder=str(folder), cores=usable_cores()[-2:], processes=2)) as server:
        yield server


# -- a server that works -----------------------------------------------------------------------------------------------


def test_it_answers_as_onnx_runtime_in_this_process_does(bert):
    values = samples(BERT, 3, seed=1)
    session = onnxruntime.InferenceSession(graph_file(BERT), providers=["CPUExecutionProvider"])
    wanted = dict(zip((t.name for t in BERT.outputs), session.run([t.name for t in BERT.outputs], values), strict=True))
    answer = infer(bert.http_address, BERT, values)
    for name, array in wanted.items():
        np.testing.assert_allclose(answer[name], array, rtol=1e-3, atol=1e-4)


def test_requests_of_one_dynamic_batch_get_their_own_answers(bert):
    many = samples(BERT, 24, seed=2)
    alone = infer(bert.http_address, BERT, many)
    parts = [{name: array[i : i + 2] for name, array in many.items()} for i in range(0, 24, 2)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda part: infer(bert.http_address, BERT, part), parts))
    for name, array in alone.items():
        np.testing.assert_allclose(np.concatenate([answer[name] for answer in answers]), array, rtol=1e-3, atol=1e-4)
    _, statistics = ask(bert.http_address, "/v2/models/bert-tiny/stats")
    found = statistics["model_stats"][0]
    assert found["execution_count"] < found["inference_count"] / 2  # several requests went through the graph at once


def test_its_echo_twin_echoes(bert):
    twin = echo_of(BERT)
    values = samples(twin, 4, seed=3)
    first = values["input_ids"][:, :1].astype(np.float32)
    np.testing.assert_array_equal(infer(bert.http_address, twin, values)["echo"], first)


def test_a_wrong_shape_is_refused_by_the_server_with_its_words(bert):
    values = samples(BERT, 1, seed=1)
    inputs = [{"name": "input_ids", "datatype": "INT64", "shape": [1, 7], "data": values["input_ids"][0, :7].tolist()}]
    status, answer = ask(bert.http_address, "/v2/models/bert-tiny/infer", {"inputs": inputs})
    assert status == 400
    assert "bert-tiny" in answer["error"]


def test_it_tells_what_it_runs_on_and_keeps_to_its_cores(bert):
    cores = usable_cores()[-2:]
    assert bert.facts["cores"] == ",".join(map(str, cores))
    assert bert.facts["threads"] == str(max(1, len(cores) // 2))
    assert bert.facts["providers"] == "CPUExecutionProvider"
    assert bert.facts["cuda_visible_devices"] == ""
    assert bert.facts["onnxruntime"] == onnxruntime.__version__
    assert bert.facts["python"] == platform.python_version()
    pids = processes_with(bert.task.folder)
    stubs = [pid for pid in pids if b"backend_stub" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(stubs) == 3  # two copies of the model and the twin
    for pid in stubs:
        assert all(os.sched_getaffinity(int(thread.name)) <= set(cores) for thread in Path(f"/proc/{pid}/task").iterdir())


def test_it_calls_itself_by_a_name_of_its_own_and_listens_here_only(bert):
    _, metadata = ask(bert.http_address, "/v2")
    assert metadata["name"].startswith("1g.10gb#2-")
    host, port = split_address(bert.address, who="it")
    with socket.create_connection((host, port), timeout=5) as connection:
        assert connection.getpeername()[0] == "127.0.0.1"


def test_an_external_server_is_looked_at_and_left_alone(bert):
    server = server_for(task("external", of=BERT, address=bert.address, http_address=bert.http_address))
    server.start()
    assert server.alive
    assert server.address == bert.address
    server.stop()
    assert bert.alive
    assert bert.why_ended() == ""
    other = server_for(task("external", of=ECHO, address=bert.address, http_address=bert.http_address, timeout_s=0.1))
    with pytest.raises(ServerError, match=r"does not serve model 'echo' after 0\.1 s; start it, or correct the address"):
        other.start()


def test_a_port_that_was_asked_for_and_is_taken(bert, tmp_path):
    port = int(bert.address.rpartition(":")[2])
    server = TritonServer(task(folder=str(tmp_path), grpc_port=port))
    with pytest.raises(ServerError, match=rf"tritonserver of 1g\.10gb#2 - port {port} cannot be used: .*in use; free it"):
        server.start()
    assert not (tmp_path / "tritonserver.log").exists()


def test_a_port_that_somebody_takes_meanwhile_is_changed_for_another(bert, tmp_path, monkeypatch):
    taken = tuple(int(address.rpartition(":")[2]) for address in (bert.address, bert.http_address))
    choices = [(taken[0], free_ports(1)[0]), (free_ports(1)[0], taken[1])]
    monkeypatch.setattr(tritonserver, "free_ports", lambda count: choices.pop(0) if choices else free_ports(count))
    with TritonServer(task(folder=str(tmp_path))) as server:
        assert not choices
        assert server.address != bert.address
        np.testing.assert_array_equal(infer(server.http_address, ECHO, {"input": np.ones((1, 4), np.float32)})["echo"], [[1]])


# -- its life and its end ----------------------------------------------------------------------------------------------


def test_after_the_stop_nothing_is_left(tmp_path):
    server = server_for(task(folder=str(tmp_path)))
    server.start()
    assert server.alive
    assert processes_with(str(tmp_path))
    assert segments(os.getpid())
    server.stop()
    server.stop()
    assert not server.alive
    assert not processes_with(str(tmp_path))
    assert any("Started GRPCInferenceService" in line for line in server.log_tail(60))


def test_a_server_that_is_killed_in_the_middle_is_seen_and_cleaned_up(tmp_path):
    with TritonServer(task(folder=str(tmp_path))) as server:
        victim = [pid for pid in processes_with(str(tmp_path)) if Path(f"/proc/{pid}/exe").resolve().name == "tritonserver"]
        os.kill(victim[0], signal.SIGKILL)
        until(lambda: not server.alive)
        assert not processes_with(str(tmp_path))  # the stubs went with it
        assert server.log_tail()
        assert "tritonserver of 1g.10gb#2 - was killed; where nobody did that, the host ran out of memory" in server.why_ended()


OWNER = """
import sys, time
from benchmarks.models.model import model
from benchmarks.servers import ServerTask, server_for
server = server_for(ServerTask("7g.80gb", "triton", model("echo"), folder=sys.argv[1]))
server.start()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_of_a_server_whose_owner_is_killed_or_gets_ctrl_c(tmp_path, number):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    assert segments(owner.pid)
    owner.send_signal(number)
    owner.communicate()
    until(lambda: not processes_with(str(tmp_path)))
    assert not segments(owner.pid)


def test_a_folder_of_its_own_goes_even_when_the_owner_is_killed(tmp_path):
    code = OWNER.replace(", folder=sys.argv[1]", "")
    command = [sys.executable, "-c", code]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    assert list(tmp_path.glob("gpu-partitioner-held-server-*/tritonserver.log"))
    owner.kill()
    owner.communicate()
    until(lambda: not processes_with(str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_it_starts(tmp_path):
    script(tmp_path, "exec sleep 600")
    code = OWNER.replace("folder=sys.argv[1]", "folder=sys.argv[1], program=sys.argv[2]")
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "tritonserver")]
    owner = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until((tmp_path / "tritonserver.log").exists)
    owner.send_signal(signal.SIGINT)
    _, said = owner.communicate()
    assert "KeyboardInterrupt" in said
    until(lambda: not processes_with(str(tmp_path)))  # at once, but for an interrupt while the guard itself was being started


def test_even_without_the_guard_the_server_goes(tmp_path):
    server = TritonServer(task(folder=str(tmp_path)))
    server.start()
    guard = [pid for pid in processes_with(str(tmp_path)) if b"guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(guard[0], signal.SIGKILL)
    until(lambda: not processes_with(str(tmp_path)))  # the kernel ends the server, and its stubs see that
    assert not server.alive
    server.stop()
    for name in segments(os.getpid()):
        (SHARED_MEMORY / name).unlink(missing_ok=True)


def test_what_dead_owners_left_in_shared_memory_is_removed_and_no_more():
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    kept = [SHARED_MEMORY / f"gpu-partitioner-triton-{os.getpid()}-test", SHARED_MEMORY / "gpu-partitioner-triton-strange"]
    stale = SHARED_MEMORY / f"gpu-partitioner-triton-{dead.pid}-abc-123"
    try:
        for path in (*kept, stale):
            path.write_text("x")
        shared.remove_stale()
        assert [path.exists() for path in (*kept, stale)] == [True, True, False]
    finally:
        for path in (*kept, stale):
            path.unlink(missing_ok=True)


def test_a_stop_from_another_thread_ends_a_start(tmp_path):
    server = TritonServer(task(folder=str(tmp_path)), program=script(tmp_path, "exec sleep 600"))
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.start)
        until(lambda: server.alive)
        server.stop()
        with pytest.raises(ServerError, match=r"was stopped while it was starting"):
            starting.result(timeout=30)
    assert not processes_with(str(tmp_path))


def test_a_folder_of_its_own_goes_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = TritonServer(task())
    server.start()
    assert list(tmp_path.glob("gpu-partitioner-held-server-*/tritonserver.log"))
    server.stop()
    assert not list(tmp_path.iterdir())


# -- servers that do not start -----------------------------------------------------------------------------------------


def failure(of=ECHO, *, program=None, **options):
    server = TritonServer(task(of=of, **options), program=program)
    with pytest.raises(ServerError) as caught:
        server.start()
    assert not server.alive
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo a word; exit 3", "tritonserver of 1g.10gb#2 - ended with exit status 3 and did not say why\n  | a word"),
        (
            "kill -SEGV $$",
            "tritonserver of 1g.10gb#2 - was ended by SIGSEGV and said nothing; is the disk full that its log is on?",
        ),
        (
            "kill -KILL $$",
            "was killed; where nobody did that, the host ran out of memory (see `dmesg`): give the host more",
        ),
        ("echo a word; exec sleep 600", "is not ready after 0.5 s; give more with timeout_s= where it is only slow\n  | a word"),
    ],
)
def test_programs_that_end_or_hang(tmp_path, text, message):
    timeout_s = 0.5 if "sleep" in text else 60.0
    assert message in failure(program=script(tmp_path, text), folder=str(tmp_path), timeout_s=timeout_s)
    assert not processes_with(str(tmp_path))


def test_a_stranger_on_the_port_is_not_taken_for_the_server(bert, tmp_path):
    ports = [int(address.rpartition(":")[2]) for address in (bert.address, bert.http_address)]
    server = TritonServer(task(of=BERT, folder=str(tmp_path), timeout_s=1.0), program=script(tmp_path, "exec sleep 600"))
    server._choose_ports = lambda: tritonserver.Ports(*ports)  # type: ignore[method-assign]
    with pytest.raises(ServerError, match="is not ready after 1 s"):
        server.start()


SCARCE = """
        import resource
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (4 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
"""


def test_a_model_that_does_not_fit_into_memory(tmp_path):
    write_repository(tmp_path, {BERT: graph_file(BERT)}, program=find_tritonserver(), serving=Serving())
    program = tmp_path / "bert-tiny/1/model.py"
    text = program.read_text()
    load = text.index("        self._session")
    program.write_text(text[:load] + SCARCE + text[load:])
    message = failure(BERT, repository=str(tmp_path), folder=str(tmp_path / "run"))
    assert "ran out of memory; give the host more memory, or use fewer processes=" in message
    assert not processes_with(str(tmp_path))


def test_a_graph_whose_tensors_are_others_than_the_model_says(tmp_path):
    wrong = replace(BERT, file=graph_file(BERT), outputs=(replace(BERT.outputs[0], shape=(63,)), BERT.outputs[1]))
    message = failure(wrong, folder=str(tmp_path), echo=False)
    assert (
        "cannot load model 'bert-tiny': Internal: ValueError: output 'output_start_logits' has shape [63] in the configuration,"
        " [64] in the graph"
    ) in message


def test_a_file_that_is_no_graph(tmp_path):
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"no graph")
    message = failure(replace(BERT, file=file), folder=str(tmp_path / "run"), echo=False)
    assert "cannot load model 'bert-tiny': Internal: InvalidProtobuf" in message


def test_a_configuration_that_triton_cannot_read(tmp_path):
    (tmp_path / "echo/1").mkdir(parents=True)
    (tmp_path / "echo/config.pbtxt").write_text('backend: "python"\ninput [{ name: "x" data_type: TYPE_FP33 dims: [ 4 ] }]\n')
    (tmp_path / "echo/1/model.py").write_text("")
    message = failure(repository=str(tmp_path), folder=str(tmp_path / "run"))
    assert "cannot read config.pbtxt of model 'echo': 2:" in message
    assert "TYPE_FP33" in message


def test_a_repository_of_the_users(tmp_path):
    write_repository(tmp_path / "given", {ECHO: None}, program=find_tritonserver(), serving=Serving())
    text = tmp_path / "given/echo/config.pbtxt"
    text.write_text(text.read_text().replace("max_batch_size: 1024", "max_batch_size: 7"))
    with TritonServer(task(repository=str(tmp_path / "given"), folder=str(tmp_path / "run"))) as server:
        _, configuration = ask(server.http_address, "/v2/models/echo/config")
        assert configuration["max_batch_size"] == 7
    assert not (tmp_path / "run/repository").exists()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "is no folder; give the one that holds a folder for each model"),
        ("other/1", "has no model 'echo'; it has other"),
        ("echo", "model 'echo' has no version; put its file into"),
        ("echo/0", "model 'echo' has no version"),
        ("echo/1", "model 'echo' has no program"),
    ],
)
def test_repositories_that_lack_something(tmp_path, made, message):
    folder = tmp_path / "repository"
    if made:
        (folder / made).mkdir(parents=True)
        (folder / made.split("/")[0] / "config.pbtxt").write_text('backend: "python"\n')
    with pytest.raises(ServerError, match=message):
        check_repository(folder, "echo")


@pytest.mark.parametrize("place", ["file/folder", "/proc/gpu-partitioner"])
def test_a_folder_that_cannot_be_made(tmp_path, place):
    (tmp_path / "file").write_text("")
    assert "cannot be made: " in failure(folder=str(tmp_path / place))


def test_a_full_disk_takes_the_log_not_the_server(tmp_path):
    (tmp_path / "tritonserver.log").symlink_to("/dev/full")
    with TritonServer(task(folder=str(tmp_path))) as server:
        assert server.alive
        assert server.log_tail() == ()
        assert server.facts["server"] == "tritonserver"


def test_a_disk_that_is_full_for_the_repository(tmp_path):
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom benchmarks.models.model import model\n"
        "from benchmarks.servers.find import find_tritonserver\n"
        "from benchmarks.servers.repository import Serving, write_repository\n"
        "program = find_tritonserver()\nresource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))\n"
        "write_repository(Path(sys.argv[1]), {model('echo'): None}, program=program, serving=Serving())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True, check=False)
    assert f"model repository {tmp_path} - cannot be written: File too large; free space, or say another folder" in done.stderr


# -- GPUs --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path):
    """A machine whose driver shows an A100 with two instances, and a T4."""
    cards = [Card("A100-80GB", mig=True, layout=[("4g.40gb", 0), ("1g.10gb", 6)]), Card("T4")]
    with Machine(tmp_path / "nvml", cards) as machine:
        yield machine


def known_instances():
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    return [pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index)) for index in range(2)]


def test_an_instance_that_is_gone_is_told_before_anything_is_started(machine, tmp_path):
    known = known_instances()
    message = failure(cuda_visible_devices="MIG-gone", folder=str(tmp_path / "run"))
    assert "this host has no instance MIG-gone; it has " in message
    assert all(uuid in message for uuid in known)
    assert machine.uuid(1) in message
    assert machine.uuid(0) not in message  # with MIG on, CUDA does not take the GPU itself for one instance
    assert not (tmp_path / "run").exists()


def test_each_server_sees_its_own_instance_only(machine, tmp_path):
    tasks = [task(folder=str(tmp_path / uuid), cuda_visible_devices=uuid) for uuid in known_instances()]
    servers = [server_for(each) for each in tasks]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda server: server.start(), servers))
        try:
            for each, server in zip(tasks, servers, strict=True):
                wanted = f"CUDA_VISIBLE_DEVICES={each.cuda_visible_devices}".encode()
                pids = processes_with(each.folder)
                assert len(pids) >= 3  # guard, server, stub
                assert all(wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in pids)
                assert server.facts["cuda_visible_devices"] == each.cuda_visible_devices
        finally:
            list(pool.map(lambda server: server.stop(), servers))


def test_a_server_that_sees_no_gpu_says_so_and_does_not_use_the_cpu(machine, tmp_path):
    uuid = known_instances()[0]  # the driver stands in, so there is nothing for CUDA
    message = failure(BERT, cuda_visible_devices=uuid, folder=str(tmp_path / "run"), echo=False)
    assert f"sees no GPU through CUDA_VISIBLE_DEVICES={uuid}; compare with `nvidia-smi -L`" in message


def test_the_cores_beside_a_gpu(tmp_path):
    device = tmp_path / "bus/pci/devices/0000:3b:00.0"
    device.mkdir(parents=True)
    (device / "local_cpulist").write_text(f"{usable_cores()[0]},4000-4001\n")
    assert cores_beside("00000000:3B:00.0", sysfs=tmp_path) == usable_cores()[:1]
    assert cores_beside("00000000:AF:00.0", sysfs=tmp_path) == ()


# -- slices of the CPU -------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.lists(st.integers(1, 8), min_size=1, max_size=12))
def test_slices_cover_the_cores_in_order_and_each_has_its_share(count, parts):
    usable, total, start, covered = tuple(range(100, 100 + count)), sum(parts), 0, []
    for part in parts:
        cores = cores_of_share(usable, start / total, part / total)
        assert cores == tuple(range(cores[0], cores[-1] + 1))
        assert part / total * count <= len(cores) + 1e-6
        assert len(cores) < part / total * count + 2  # rounded outwards, by less than a core on either side
        assert cores[0] == 100 + start * count // total  # exact: where a division comes out even, nothing is shared
        covered += cores
        start += part
    assert sorted(set(covered)) == list(usable)


def test_slices_that_come_out_even_share_nothing():
    assert [cores_of_share(range(7), i / 7, 1 / 7) for i in range(7)] == [(i,) for i in range(7)]
    assert cores_of_share((4, 5, 8, 9), 0.5, 0.5) == (8, 9)
    assert cores_of_share((3,), 6 / 7, 1 / 7) == (3,)


@pytest.mark.parametrize("part", [(-0.1, 0.5), (0.6, 0.5), (0.5, 0.0)])
def test_slices_that_are_none(part):
    with pytest.raises(SpecError, match=r"slice of the CPU - from .* is not within the whole"):
        cores_of_share(range(4), *part)


def test_cores_for_load_generators():
    assert split_cores((0, 1, 2)).servers == split_cores((0, 1, 2)).load == (0, 1, 2)
    assert split_cores((0, 1, 2, 7)).load == (7,)
    assert split_cores(range(8), reserved=3).servers == (0, 1, 2, 3, 4)
    with pytest.raises(SpecError, match="4 of 4 leave none for servers; give 0 to 3"):
        split_cores(range(4), reserved=4)


def test_threads_and_lists_of_cores():
    assert [threads_for(range(6)), threads_for(range(6), 4), threads_for((), 1)] == [6, 1, 1]
    assert parse_cpulist("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}
    assert parse_cpulist("\n") == set()


# -- which tritonserver, and its files ---------------------------------------------------------------------------------


def test_the_package_is_found_without_being_imported(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = find_tritonserver()
    assert found.binary.is_file()
    assert found.stub is not None
    assert f"/{sys.version_info.major}.{sys.version_info.minor}/" in str(found.stub)
    assert all(folder.is_dir() for folder in found.libraries)
    assert "pytriton" not in sys.modules
    assert find_tritonserver(found.binary) == found


def test_an_installed_one_comes_first_and_the_variable_before_it(tmp_path, monkeypatch):
    for name in ("path/bin", "named/bin"):
        (tmp_path / name).mkdir(parents=True)
        script(tmp_path / name, "exit")
    (tmp_path / "path/backends/onnxruntime").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path / "path/bin"))
    found = find_tritonserver()
    assert (found.binary, found.stub) == (tmp_path / "path/bin/tritonserver", None)
    assert found.has_backend("onnxruntime")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named/bin/tritonserver"))
    assert find_tritonserver().binary == tmp_path / "named/bin/tritonserver"
    assert not find_tritonserver().has_backend("python")


def test_without_any_the_message_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ServerError, match=r"neither on the PATH nor .*`pip install --no-deps nvidia-pytriton` \(Linux"):
        find_tritonserver()
    with pytest.raises(ServerError, match=rf"{tmp_path}/x is not a program that can be run; get one with"):
        find_tritonserver(tmp_path / "x")


def test_a_server_with_tritons_own_onnx_backend_gets_the_graph_itself(tmp_path):
    (tmp_path / "backends/onnxruntime").mkdir(parents=True)
    graph = tmp_path / "graphs/model.onnx"
    graph.parent.mkdir()
    graph.write_bytes(b"graph")
    graph.with_name("model.onnx.data").write_bytes(b"weights")
    program = Tritonserver(tmp_path / "tritonserver", tmp_path / "backends")
    folder = tmp_path / "repository"
    for _ in range(2):  # written again over what is there
        write_repository(folder, {BERT: graph, echo_of(BERT): None}, program=program, serving=Serving(3, 2, on_gpu=True))
    text = (folder / "bert-tiny/config.pbtxt").read_text()
    assert 'backend: "onnxruntime"' in text
    assert "instance_group [{ kind: KIND_GPU count: 3 }]" in text
    assert 'input [{ name: "input_ids" data_type: TYPE_INT64 dims: [ 64 ] }]' in text
    assert (folder / "bert-tiny/1/model.onnx").read_bytes() == b"graph"
    assert (folder / "bert-tiny/1/model.onnx.data").read_bytes() == b"weights"
    assert "instance_group [{ kind: KIND_CPU count: 1 }]" in (folder / "bert-tiny-echo/config.pbtxt").read_text()
    assert "sys.path" not in (folder / "bert-tiny-echo/1/model.py").read_text()  # its Python is its own


@pytest.mark.parametrize(
    ("log", "status", "words"),
    [
        ("tritonserver: error while loading shared libraries: libb64.so.0d: cannot open", 127, "lacks the library libb64.so.0d"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", -6, "ran out of memory; give the host more"),
        (
            "E1 model_lifecycle.cc:642] \"failed to load 'm' version 1: Internal: error 6: CUDA out of memory\"",
            1,
            "ran out",
        ),
        ("error: creating server: Internal - failed to stat file /srv/models", 1, "finds no model repository /srv/models"),
        ("E1 model_repository_manager.cc:1415] \"failed to poll model 'z': model not found in any", 1, "has no model 'z'"),
        ("Failed to increase the shared memory pool size", 1, "finds no room in /dev/shm; enlarge it"),
        ("guard: /x/tritonserver cannot be run: Exec format error", 127, "cannot be run: /x/tritonserver: Exec format error"),
        ("", 127, "cannot be run; is its path right?"),
        ("CUDA error: no CUDA-capable device is detected", 1, "sees no GPU through CUDA_VISIBLE_DEVICES=MIG-7; compare"),
    ],
)
def test_reasons_are_read_from_the_log(log, status, words):
    assert words in reason(f"I1 fine\n{log}\nI1 ends", status, device="MIG-7").text


# -- other kinds -------------------------------------------------------------------------------------------------------


def test_an_emulated_server_says_so_and_ends(tmp_path):
    device = EmulatedDevice.constant(ECHO, 1.0)
    server = server_for(task("emulated", emulation=json.loads(device.to_json()), folder=str(tmp_path)))
    server.start()
    assert server.alive
    assert server.why_ended() == ""
    assert server.facts["server"] == "emulated, not measured"
    with socket.create_connection(split_address(server.address, who="it"), timeout=5):
        pass
    server.stop()
    assert not server.alive
    assert server.why_ended() == "emulated server of 1g.10gb#2 - ended with exit status 0"


def test_an_emulated_server_whose_port_is_taken(tmp_path):
    device = EmulatedDevice.constant(ECHO, 1.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        given = task("emulated", emulation=json.loads(device.to_json()), folder=str(tmp_path), grpc_port=port)
        with pytest.raises(ServerError, match=str(port)):
            server_for(given).start()


def test_an_external_server_that_is_not_there():
    address = f"127.0.0.1:{free_ports(1)[0]}"
    server = server_for(task("external", address=address, timeout_s=0.1))
    assert not server.alive
    said = rf"server of 1g\.10gb#2 at {address} - takes no connections \(Connection refused\) after 0\.1 s"
    with pytest.raises(ServerError, match=said):
        server.start()


@pytest.mark.parametrize("address", ["vm-7.lab", "vm-7.lab:", ":8001", "vm-7.lab:99999", "vm-7.lab:grpc"])
def test_addresses_that_are_none(address):
    with pytest.raises(ServerError, match="is none; right would be host:port"):
        server_for(task("external", address=address))


def test_addresses():
    assert split_address("vm-7.lab:8001", who="it") == ("vm-7.lab", 8001)
    assert split_address("[fe80::1]:8001", who="it") == ("fe80::1", 8001)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "docker"}, "kind 'docker' is unknown; known: triton, external, emulated"),
        ({"kind": "external"}, "an external server needs its address"),
        ({"kind": "emulated"}, "an emulated server needs a device"),
        ({"processes": 0}, "0 processes serve nothing"),
    ],
)
def test_tasks_that_are_none(options, words):
    with pytest.raises(SpecError, match=words):
        task(**options)


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, benchmarks.servers.tritonserver, benchmarks.servers.external\n"
        "print([name for name in ('onnx', 'onnxruntime', 'tritonclient', 'grpc', 'pynvml', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_a_gpu_a_remark_on_it_is_no_reason():
    remark = "W1 pinned_memory_manager.cc:273] no CUDA-capable device is detected\n"
    assert reason(remark, 1, device=None).text == "ended with exit status 1 and did not say why"
    wanted = remark + "E1 model_lifecycle.cc:642] \"failed to load 'm' version 1: Invalid argument: no GPUs are available\""
    assert "sees no GPU" in reason(wanted, 1, device=None).text
    assert "was killed; where nobody did that" in reason("std::bad_alloc", -9, device=None).text
