"""Models run in this process: ONNX Runtime for real, and what is said where it, PyTorch, memory or a file is missing."""

import asyncio
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from benchmarks.errors import RequestError, ServerError
from benchmarks.inprocess import OnnxRuntimeSystem, TorchSystem
from benchmarks.inprocess.system import InProcessSystem
from benchmarks.load.engine import AsyncioEngine
from benchmarks.load.log import RequestLog
from benchmarks.load.values import Load, Rules
from benchmarks.models.graphs import from_onnx, graph_file
from benchmarks.models.model import Tensor, model
from partitioner.errors import SpecError

CPU = ("CPUExecutionProvider",)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def system(bench, kept, **options) -> OnnxRuntimeSystem:
    return OnnxRuntimeSystem(bench, file=graph_file(bench, kept), **{"threads": 1, "providers": CPU, "n_samples": 8, **options})


async def used(opened, *requests) -> dict[str, str]:
    """Open a system, send it requests one after another, and close it."""
    try:
        facts = await opened.open()
        for request in requests:
            await opened.infer(request)
        return facts
    finally:
        await opened.close()


def graph(path: Path, *operators: str) -> Path:
    """Write a graph of operators in a row, from ``x`` to ``y``, both FP32 of 4."""
    names = ["x", *(f"v{number}" for number in range(1, len(operators))), "y"]
    nodes = [helper.make_node(name, [names[at]], [names[at + 1]]) for at, name in enumerate(operators)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    whole = helper.make_graph(nodes, "row", ends[:1], ends[1:])
    onnx.save(helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


# --- answers --------------------------------------------------------------------------------------------------------


def test_real_models_answer_batches(kept):
    facts = asyncio.run(used(system(model("bert-tiny"), kept), (0,), (1, 2, 3), (7, 0, 4)))
    assert facts["server"].startswith("ONNX Runtime 1.")
    assert (facts["providers"], facts["threads"], facts["processes"]) == ("CPUExecutionProvider", "1", "1")
    assert facts["model"] == "bert-tiny"
    assert facts["file"] == graph_file(model("bert-tiny"), kept).parent.name + "/model.onnx"


def test_echoes_are_checked_for_every_sample(kept):
    opened = system(model("resnet50-echo"), kept)
    asyncio.run(used(opened, (0,), (3, 4, 5), (5, 3, 3)))  # a copied batch, a repeated sample
    liar = replace(from_onnx(graph(kept / "liar.onnx", "Neg")), echoes=True)
    with pytest.raises(RequestError, match=r"liar - answered .*; right would be the echo"):
        asyncio.run(used(OnnxRuntimeSystem(liar, providers=CPU, threads=1)))


def test_the_engine_keeps_time_while_a_batch_runs(kept):
    async def ticks() -> int:
        opened, count = system(model("resnet50"), kept), 0
        await opened.open()
        batch = asyncio.create_task(opened.infer((0, 1, 2, 3)))
        while not batch.done():
            await asyncio.sleep(0.001)
            count += 1
        await batch
        await opened.close()
        return count

    assert asyncio.run(ticks()) > 3  # 0 or 1 where the batch kept the loop


@pytest.mark.parametrize(
    ("load", "size"),
    [
        (Load("server", Rules(min_duration_s=0.3), rate_per_s=100, seed=1), 1),
        (Load("offline", Rules(min_duration_s=0.3), batch=4, concurrency=2), 4),
    ],
)
def test_the_asyncio_engine_drives_a_real_model(kept, load, size):
    async def measured() -> RequestLog:
        opened = system(model("bert-tiny"), kept)
        await opened.open()
        log = await AsyncioEngine().run(opened, load, start_s=time.monotonic() + 0.05, progress=lambda _: None)
        await opened.close()
        return log

    log = asyncio.run(measured())
    assert len(log) > 5
    assert not log.failed.any(), log.failures
    assert (log.samples == size).all()
    assert (log.done_s > log.sent_s).all()


class Meeting:
    """A framework whose batches end only when two of them run at the same time."""

    def __init__(self) -> None:
        self.barrier: threading.Barrier | None = None

    def load(self) -> dict[str, str]:
        return {}

    def run(self, inputs):
        if self.barrier is not None:
            self.barrier.wait(timeout=30)
        return {"echo": inputs["input"][:, :1]}

    def stop(self) -> None:
        pass


def test_as_many_batches_run_at_once_as_there_are_processes():
    async def meet() -> None:
        framework = Meeting()
        opened = InProcessSystem(model("echo"), framework, processes=2, n_samples=4, seed=0)
        await opened.open()
        framework.barrier = threading.Barrier(2)
        await asyncio.gather(*(opened.infer((sample,)) for sample in range(4)))
        await opened.close()

    asyncio.run(meet())


def test_closing_ends_a_running_batch_and_drops_those_that_wait(kept):
    async def broken_off() -> list[BaseException | None]:
        opened = system(model("resnet50"), kept, n_samples=64)
        await opened.open()
        requests = [asyncio.create_task(opened.infer(range(64))) for _ in range(2)]  # seconds each
        await asyncio.sleep(0.1)
        await opened.close()
        await opened.close()
        return await asyncio.gather(*requests, return_exceptions=True)

    running, waiting = asyncio.run(broken_off())
    assert isinstance(running, RequestError)
    assert isinstance(waiting, asyncio.CancelledError)


def test_a_system_that_is_not_open_refuses(kept):
    closed = system(model("echo"), kept)
    asyncio.run(used(closed, (0,)))
    with pytest.raises(RequestError, match="echo - the system is closed"):
        asyncio.run(closed.infer((0,)))


# --- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "echo - threads is 0; 1 is least"),
        ({"processes": 0}, "echo - processes is 0; 1 is least"),
        ({"n_samples": 0}, "echo - n_samples is 0; 1 is least"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(kept, options, message):
    with pytest.raises(SpecError, match=message):
        system(model("echo"), kept, **options)


@pytest.mark.parametrize(
    ("providers", "message"),
    [(("CPUExecutionProvder",), "did you mean 'CPUExecutionProvider'"), ((), "no provider is given; offered: .*CPUExec")],
)
def test_providers_are_those_of_the_installed_runtime(kept, providers, message):
    with pytest.raises(SpecError, match=message):
        asyncio.run(used(system(model("echo"), kept, providers=providers)))


def test_a_gpu_is_not_measured_on_the_cpu(kept, monkeypatch):
    offered = [provider for provider in onnxruntime.get_available_providers() if provider != "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    with pytest.raises(ServerError, match=r"CUDA_VISIBLE_DEVICES is MIG-1234, and .* has no CUDA.*pip install onnxruntime-gpu"):
        asyncio.run(used(system(model("echo"), kept, providers=None)))
    assert asyncio.run(used(system(model("echo"), kept)))["cuda_visible_devices"] == "MIG-1234"  # the CPU was asked for
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert asyncio.run(used(system(model("echo"), kept, providers=None)))["providers"] == "CPUExecutionProvider"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"its file .*none\.onnx is not there"):
        asyncio.run(used(OnnxRuntimeSystem(model("echo"), file=tmp_path / "none.onnx")))


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "odd.onnx").write_bytes(b"odd")
    with pytest.raises(ServerError, match=r"echo - .*odd\.onnx cannot be loaded: .*give another file"):
        asyncio.run(used(OnnxRuntimeSystem(model("echo"), file=tmp_path / "odd.onnx", providers=CPU)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": (Tensor("x", "FP32", (5,)),)}, r"input 'x' of the graph is FP32 \(4,\); right would be FP32 \(5,\)"),
        ({"inputs": (Tensor("x", "INT64", (4,)),)}, r"is FP32 \(4,\); right would be INT64 \(4,\)"),
        ({"inputs": (Tensor("z", "FP32", (4,)),)}, "the graph has no input 'z'; its other inputs: x"),
        ({"outputs": (Tensor("z", "FP32", (4,)),)}, "the graph has no output 'z'; its other outputs: y"),
    ],
)
def test_a_graph_of_another_model_is_refused(tmp_path, change, message):
    mine = from_onnx(graph(tmp_path / "mine.onnx", "Identity"))
    with pytest.raises(ServerError, match=message):
        asyncio.run(used(OnnxRuntimeSystem(replace(mine, **change), providers=CPU)))


def test_a_graph_that_wants_more_inputs_is_refused(kept):
    bert = model("bert-tiny")
    with pytest.raises(ServerError, match="the graph also wants the inputs segment_ids"):
        asyncio.run(used(OnnxRuntimeSystem(replace(bert, inputs=bert.inputs[:2]), file=graph_file(bert, kept), providers=CPU)))


def test_answers_that_are_no_numbers_are_refused(tmp_path):
    mine = from_onnx(graph(tmp_path / "mine.onnx", "Abs", "Neg", "Sqrt"))
    with pytest.raises(RequestError, match="mine - output 'y' holds values that are not finite"):
        asyncio.run(used(OnnxRuntimeSystem(mine, providers=CPU)))


def test_a_batch_over_the_models_most_is_refused(kept):
    with pytest.raises(RequestError, match="echo - a batch of 1025 samples; 1024 is most"):
        asyncio.run(used(system(model("echo"), kept), [0] * 1025))


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
import numpy, onnxruntime
from benchmarks.errors import BenchmarkError
from benchmarks.inprocess import OnnxRuntimeSystem
from benchmarks.models.model import model

def limit(mib):
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (mib << 20),) * 2)

async def main():
    system = OnnxRuntimeSystem(model("resnet50"), file=Path(sys.argv[1]), threads=1, providers=["CPUExecutionProvider"])
    try:
        if sys.argv[2] == "load":
            limit(60)
        await system.open()
        limit(60)
        await system.infer(range(64))
    except BenchmarkError as error:
        print(type(error).__name__, error)
    await system.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("load", "ServerError resnet50 - .*does not fit into memory"),
        ("run", "RequestError resnet50 - a batch of 64 does not fit"),
    ],
)
def test_memory_that_runs_out_is_said(kept, when, message):
    file = graph_file(model("resnet50"), kept)
    command = [sys.executable, "-c", LIMITED, str(file), when]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.match(message, done.stdout), (done.stdout, done.stderr)


def test_missing_frameworks_say_what_to_install(kept, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ServerError, match=r"pip install 'gpu-partitioner\[bench\]'"):
        asyncio.run(used(system(model("echo"), kept)))
    with pytest.raises(ServerError, match=r"PyTorch cannot be loaded .*; pip install torch"):
        asyncio.run(used(TorchSystem(model("resnet50"))))
    with pytest.raises(SpecError, match="precision 'fp16' is unknown; known: float32, float16, bfloat16"):
        TorchSystem(model("resnet50"), precision="fp16")


def test_pytorch_refuses_a_graph_of_onnx(tmp_path):
    mine = from_onnx(graph(tmp_path / "mine.onnx", "Identity"))
    with pytest.raises(SpecError, match=r"mine - PyTorch does not run ONNX files such as .*mine\.onnx; give its TorchScript"):
        TorchSystem(mine)
