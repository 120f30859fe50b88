"""The client of Triton, against a server in this process that speaks the protocol, and against a real tritonserver."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.errors import RequestError, ServerError
from benchmarks.models.model import BenchModel, Tensor, echo_of, model
from benchmarks.servers import Server, ServerTask, server_for
from benchmarks.servers.emulated import EmulatedDevice, Emulation, Faults
from benchmarks.triton import TritonSystem, shared, wire
from benchmarks.triton.inputs import SHARED_FROM_BYTES, Inputs
from benchmarks.triton.serving import Served, Service, serve
from benchmarks.triton.wire import service_pb2

ECHO = model("echo")
IMAGES = BenchModel("images", (Tensor("input", "FP32", (3, 64, 64)),), (Tensor("logits", "FP32", (10,)),), max_batch=8)
IMAGES_ECHO = echo_of(IMAGES)
PAIR = BenchModel(
    "pair",
    (Tensor("tokens", "INT64", (128,), high=100), Tensor("mask", "INT64", (128,), low=1)),
    (Tensor("start", "FP32", (128,)), Tensor("end", "FP32", (-1,))),
    max_batch=64,
)


@asynccontextmanager
async def served(
    *models: BenchModel, faults: Faults | None = None, service_ms: float = 0.0, ready: bool = True
) -> AsyncIterator[str]:
    """Serve models in this process; yield the address."""
    loop = asyncio.get_running_loop()
    shown = []
    for each in models:
        device = replace(EmulatedDevice.constant(each, service_ms, batch=each.max_batch), faults=faults or Faults())
        shown.append(Served(each, Emulation(device, loop), each.max_batch))
    server, port = await serve(Service(shown, version="0", parameters={}, ready=ready), host="127.0.0.1", port=0)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def opened(system: TritonSystem) -> AsyncIterator[dict[str, str]]:
    try:
        yield await system.open()
    finally:
        await system.close()


def ours() -> set[str]:
    """Names of what this process has in shared memory."""
    return {path.name for path in shared.FOLDER.glob(f"gpu-partitioner-inputs-*-{os.getpid()}-*")}


async def regions_of(address: str) -> list[str]:
    async with wire.channel(address) as channel:
        status = await wire.stub(channel).SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest())
        return list(status.regions)


# -- requests and answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("asked", [ECHO, IMAGES, IMAGES_ECHO, PAIR], ids=lambda m: m.name)
def test_requests_of_all_sizes_are_answered(asked, shared_memory):
    async def run():
        async with served(asked) as address:
            system = TritonSystem(address, asked, n_samples=5, seed=1, shared_memory=shared_memory)
            async with opened(system) as facts:
                assert facts["shared_memory"].startswith("yes" if shared_memory else "no")
                assert facts["server"] == "gpu-partitioner emulated 0"
                assert facts["max_batch"] == str(asked.max_batch)
                await asyncio.gather(*(system.infer([sample]) for sample in range(5)))
                await system.infer([3, 4, 0])
                await system.infer([0] * asked.max_batch)

    asyncio.run(run())
    assert not ours()


def test_each_sample_has_inputs_of_its_own_and_the_seed_says_which():
    first, again, other = Inputs(ECHO, 8, seed=1), Inputs(ECHO, 8, seed=1), Inputs(ECHO, 8, seed=2)
    sent = [first.request(sample, 1).message for sample in range(8)]
    assert len(set(sent)) == 8
    assert [again.request(sample, 1).message for sample in range(8)] == sent
    assert not set(sent) & {other.request(sample, 1).message for sample in range(8)}


def test_a_batch_is_the_window_behind_its_first_sample():
    inputs = Inputs(IMAGES, 8, seed=0)
    made = inputs.request(2, 3)
    assert np.array_equal(made.inputs["input"], inputs.arrays["input"][2:5])
    message = service_pb2.ModelInferRequest.FromString(made.message)
    assert list(message.inputs[0].shape) == [3, 3, 64, 64]
    assert message.raw_input_contents[0] == inputs.arrays["input"][2:5].tobytes()
    assert inputs.request(7, 3) is inputs.request(1, 3), "a window that would leave the inputs is another one"
    assert inputs.request(2, 3) is made


def test_more_samples_than_are_prepared_repeat_themselves():
    inputs = Inputs(IMAGES, 2, seed=0)
    values = inputs.request(0, 11).inputs["input"]
    assert np.array_equal(values[8:], values[:3])


def test_large_requests_only_go_through_shared_memory_by_themselves():
    inputs = Inputs(PAIR, 16, seed=0)
    inputs.share("region", always=False)
    few, many, small = (service_pb2.ModelInferRequest() for _ in range(3))
    few.ParseFromString(inputs.request(1, 4).message)
    many.ParseFromString(inputs.request(1, 48).message)
    assert PAIR.request_bytes * 4 < SHARED_FROM_BYTES < PAIR.request_bytes * 48
    assert len(few.raw_input_contents) == 2
    assert not few.inputs[0].parameters
    assert not many.raw_input_contents
    second = many.inputs[1].parameters
    assert second["shared_memory_region"].string_param == "region"
    assert second["shared_memory_offset"].int64_param == 64 * 1024 + 1024
    assert second["shared_memory_byte_size"].int64_param == 48 * 1024
    inputs.share("region", always=True)
    small.ParseFromString(inputs.request(1, 4).message)
    assert not small.raw_input_contents


@pytest.mark.parametrize(
    ("faults", "asked", "message"),
    [
        (Faults(wrong_after=0, wrong="shape"), ECHO, r"output 'echo' of shape \[2, 1\] came with 4 bytes"),
        (Faults(wrong_after=0, wrong="output"), ECHO, "no output 'echo' came back, only nothing"),
        (Faults(wrong_after=0, wrong="output"), PAIR, "no output 'start' came back, only end"),
        (Faults(wrong_after=3, wrong="value"), ECHO, "right would be the echo"),
        (Faults(refuse_after=2), ECHO, "UNAVAILABLE: emulated fault.*; the server is gone, or not reached; see its log"),
        (Faults(refuse_after=1, refusal="RESOURCE_EXHAUSTED"), ECHO, "the server has no room; use smaller batches"),
        (Faults(hang_after=1), ECHO, "echo at 127.0.0.1:.* - no answer within 0.5 s; allow more time, or send less"),
        (Faults(slow_after=1, slow_ms=5000), ECHO, "no answer within 0.5 s"),
    ],
    ids=["shape", "output", "second output", "value", "refused", "full", "hangs", "slow"],
)
def test_faults_are_failures_of_the_request(faults, asked, message):
    async def run():
        async with served(asked, faults=faults) as address:
            late = faults.hang_after is not None or faults.slow_after is not None
            system = TritonSystem(address, asked, timeout_s=0.5 if late else 30)
            async with opened(system):
                for _ in range(faults.wrong_after or faults.refuse_after or faults.hang_after or faults.slow_after or 0):
                    await system.infer([0])
                with pytest.raises(RequestError, match=message):
                    await system.infer([0])

    asyncio.run(run())


def test_a_request_larger_than_the_server_takes_fails():
    async def run():
        async with served(replace(ECHO, max_batch=4)) as address:
            system = TritonSystem(address, ECHO)
            async with opened(system):
                with pytest.raises(RequestError, match=r"INVALID_ARGUMENT: .*batch-size must be <= 4"):
                    await system.infer(range(5))

    asyncio.run(run())


def test_a_request_that_is_given_up_leaves_the_system_usable():
    async def run():
        async with served(ECHO, faults=Faults(slow_after=0, slow_ms=50)) as address:
            system = TritonSystem(address, ECHO)
            async with opened(system):
                task = asyncio.create_task(system.infer([0]))
                await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await system.infer([1])

    asyncio.run(run())


# -- the server is another one than is meant ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meant", "message"),
    [
        (replace(ECHO, name="ecco"), "has no model 'ecco'; did you mean 'echo'"),
        (
            replace(ECHO, name="resnet50"),
            "has no model 'resnet50'; known: echo, pair; put the model into the server's repository",
        ),
        (
            replace(ECHO, inputs=(Tensor("input", "FP32", (5,)),)),
            r"model 'echo' is another one than is meant: input 'input' is of shape \[-1, 4\] there; right would be \[-1, 5\]",
        ),
        (replace(ECHO, inputs=(Tensor("input", "FP16", (4,)),)), "input 'input' is FP32 there; right would be FP16"),
        (
            replace(ECHO, inputs=(Tensor("image", "FP32", (4,)),)),
            "it has no input 'image' but 'input'; it wants input 'input' too",
        ),
        (replace(ECHO, outputs=(Tensor("logits", "FP32", (1,)),)), "it has no output 'logits' but 'echo'"),
        (replace(PAIR, inputs=PAIR.inputs[:1]), "it wants input 'mask' too; right would be 'tokens'"),
    ],
    ids=["near miss", "no model", "shape", "datatype", "input", "output", "one input more"],
)
def test_another_model_is_refused_before_anything_is_sent(meant, message):
    async def run():
        async with served(ECHO, PAIR) as address:
            system = TritonSystem(address, meant)
            with pytest.raises(ServerError, match=message):
                await system.open()
            await system.close()

    asyncio.run(run())


def test_a_model_that_failed_to_load_is_not_waited_for():
    class Failed(Service):
        async def ModelReady(self, _request, _context):  # noqa: N802
            return service_pb2.ModelReadyResponse(ready=False)

        async def RepositoryIndex(self, _request, _context):  # noqa: N802
            answer = service_pb2.RepositoryIndexResponse()
            answer.models.add(name="echo", version="1", state="UNAVAILABLE", reason="no module named onnxruntime")
            return answer

    async def run():
        server, port = await serve(Failed([], version="0", parameters={}), host="127.0.0.1", port=0)
        with pytest.raises(ServerError, match="model 'echo' is not served: no module named onnxruntime; correct it"):
            await TritonSystem(f"127.0.0.1:{port}", ECHO).open()
        await server.stop(None)

    asyncio.run(run())


def test_another_kind_of_server_is_told_apart():
    async def run():
        server = wire.grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with pytest.raises(ServerError, match="it is no server of the KServe v2 protocol"):
            await TritonSystem(f"127.0.0.1:{port}", ECHO).open()
        await server.stop(None)

    asyncio.run(run())


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServerError, match=rf"{address} - not ready after 0.2 s: .*; start the server, check its log"):
            asyncio.run(TritonSystem(address, ECHO, ready_s=0.2).open())


def test_a_server_that_does_not_become_ready_is_not_waited_for_forever():
    async def run():
        async with served(ECHO, ready=False) as address:
            with pytest.raises(ServerError, match=r"the server is not ready, model 'echo' is not"):
                await TritonSystem(address, ECHO, ready_s=0.1).open()

    asyncio.run(run())


def test_a_server_that_starts_later_is_waited_for():
    async def run():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        system = TritonSystem(f"127.0.0.1:{port}", ECHO, ready_s=30)
        opening = asyncio.create_task(system.open())
        await asyncio.sleep(0.2)
        device = Emulation(EmulatedDevice.constant(ECHO, 0), asyncio.get_running_loop())
        server, _ = await serve(Service([Served(ECHO, device, 1)], version="0", parameters={}), host="127.0.0.1", port=port)
        await opening
        await system.infer([0])
        await system.close()
        await server.stop(None)

    asyncio.run(run())


# -- shared memory -----------------------------------------------------------------------------------------------------


def test_regions_are_unregistered_and_no_file_is_there_even_while_they_are_used():
    async def run():
        async with served(IMAGES) as address:
            system = TritonSystem(address, IMAGES, shared_memory=True)
            async with opened(system):
                assert len(await regions_of(address)) == 1
                assert not ours()
            assert not await regions_of(address)

    asyncio.run(run())


def test_another_host_shares_no_memory():
    assert shared.on_this_host("127.0.0.1:8001")
    assert shared.on_this_host("[::1]:8001") or not socket.has_ipv6
    assert shared.on_this_host("localhost:8001")
    assert not shared.on_this_host("192.0.2.1:8001")  # of RFC 5737: nobody's
    assert not shared.on_this_host("no-such-host.invalid:8001")


def test_a_server_that_cannot_map_is_sent_the_inputs(monkeypatch):
    """As one in a container with a /dev/shm of its own; one that was told to share is told why it cannot."""

    class Elsewhere(Service):
        async def SystemSharedMemoryRegister(self, request, context):  # noqa: N802
            await context.abort(wire.grpc.StatusCode.INVALID_ARGUMENT, "Unable to open shared memory region")

    async def run():
        loop = asyncio.get_running_loop()
        device = Emulation(EmulatedDevice.constant(IMAGES, 0, batch=8), loop)
        server, port = await serve(Elsewhere([Served(IMAGES, device, 8)], version="0", parameters={}), host="127.0.0.1", port=0)
        system = TritonSystem(f"127.0.0.1:{port}", IMAGES)
        async with opened(system) as facts:
            assert facts["shared_memory"].startswith("no: shared memory - the server cannot map it")
            await system.infer(range(8))
        with pytest.raises(ServerError, match="the server cannot map it: Unable to open"):
            await TritonSystem(f"127.0.0.1:{port}", IMAGES, shared_memory=True).open()
        await server.stop(None)

    asyncio.run(run())
    assert not ours()


def test_no_room_in_shared_memory_is_said_and_kills_nobody():
    async def run():
        async with served(IMAGES) as address, wire.channel(address) as channel:
            room = os.statvfs(shared.FOLDER)
            region = shared.Region(wire.stub(channel), (room.f_blocks + 1) * room.f_frsize)
            with pytest.raises(ServerError, match=r"MiB cannot be had: .*; enlarge it, or use fewer samples"):
                await region.open([])

    asyncio.run(run())
    assert not ours()


CRASHES = """
import asyncio, os, signal, sys
from benchmarks.models.model import BenchModel, Tensor
from benchmarks.triton import TritonSystem

async def run():
    images = BenchModel("images", (Tensor("input", "FP32", (3, 64, 64)),), (Tensor("logits", "FP32", (10,)),), max_batch=8)
    system = TritonSystem(sys.argv[1], images, shared_memory=True)
    await system.open()
    await system.infer([0])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(run())
"""


def test_a_client_that_was_killed_leaves_nothing_to_the_next():
    async def run():
        async with served(IMAGES) as address:
            crashing = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASHES, address)
            assert await crashing.wait() == -signal.SIGKILL
            (stale,) = await regions_of(address)
            assert f"-{crashing.pid}-" in stale
            assert not (shared.FOLDER / stale).exists()
            half_made = shared.FOLDER / f"{stale.rpartition('-')[0]}-77"  # as if it had died before the server had mapped it
            half_made.write_bytes(b"x")
            system = TritonSystem(address, IMAGES, shared_memory=True)
            async with opened(system):
                assert not half_made.exists()
                (left,) = await regions_of(address)
                assert f"-{os.getpid()}-" in left

    asyncio.run(run())


def test_a_process_that_only_waits_for_its_parent_to_look_counts_as_gone():
    with subprocess.Popen(["/bin/true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
        assert shared._started(child.pid) == 0
    assert shared._started(os.getpid()) > 0


def test_regions_of_living_clients_are_left_alone():
    async def run():
        async with served(IMAGES) as address:
            first = TritonSystem(address, IMAGES, shared_memory=True)
            async with opened(first), opened(TritonSystem(address, IMAGES, shared_memory=True)):
                assert len(await regions_of(address)) == 2
                await first.infer([0])

    asyncio.run(run())


# -- the real server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tritonserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = server_for(ServerTask("images", "triton", IMAGES_ECHO, folder=str(tmp_path_factory.mktemp("triton"))))
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("shared_memory", [True, False])
def test_a_real_tritonserver_echoes_every_value(tritonserver, shared_memory):
    async def run():
        system = TritonSystem(tritonserver.address, IMAGES_ECHO, n_samples=6, shared_memory=shared_memory)
        async with opened(system) as facts:
            assert facts["backend"] == "python"
            assert facts["model"] == "images-echo version 1"
            assert "system_shared_memory" in facts["server_extensions"]
            assert not ours()
            for batch in (1, 2, 8):
                await asyncio.gather(*(system.infer([first + i for i in range(batch)]) for first in range(6)))
        assert not await regions_of(tritonserver.address)

    asyncio.run(run())


def test_a_real_tritonserver_with_another_model_is_refused(tritonserver):
    async def run():
        with pytest.raises(ServerError, match="has no model 'image'; did you mean 'images-echo'"):
            await TritonSystem(tritonserver.address, replace(IMAGES_ECHO, name="image")).open()
        small = replace(IMAGES_ECHO, inputs=(Tensor("input", "FP32", (3, 32, 32)),))
        with pytest.raises(ServerError, match=r"shape \[-1, 3, 64, 64\] there; right would be \[-1, 3, 32, 32\]"):
            await TritonSystem(tritonserver.address, small).open()

    asyncio.run(run())


def test_a_server_that_dies_in_the_middle_fails_requests_at_once(tmp_path: Path):
    async def run():
        server = server_for(ServerTask("echo", "triton", ECHO, folder=str(tmp_path)))
        server.start()
        try:
            system = TritonSystem(server.address, ECHO, timeout_s=30)
            async with opened(system):
                await system.infer([0])
                server.stop()
                with pytest.raises(RequestError, match="UNAVAILABLE"):
                    await system.infer([0])
        finally:
            server.stop()

    asyncio.run(run())


# -- the door ----------------------------------------------------------------------------------------------------------


def test_without_tritonclient_the_extra_is_named():
    code = "import sys; sys.modules['tritonclient'] = None; import benchmarks.triton"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "BenchmarkError: tritonclient - cannot be imported" in said.stderr
    assert "pip install 'gpu-partitioner[bench]'" in said.stderr
