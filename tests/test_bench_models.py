"""Models of the benchmarks: their tensors, their graphs run by ONNX Runtime, and the folder that graphs are kept in."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from benchmarks.errors import BenchmarkError, RequestError
from benchmarks.models.graphs import from_onnx, graph_file
from benchmarks.models.graphs.bert import SHAPES
from benchmarks.models.graphs.writing import Graph
from benchmarks.models.model import LATENCY_BOUNDS_MS, BenchModel, Tensor, echo_of, echoed, model, names
from benchmarks.models.samples import check_answer, samples
from partitioner.errors import SpecError
from partitioner.performance import Calibration


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def run(bench: BenchModel, file: Path, inputs: dict) -> dict:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    wanted = [tensor.name for tensor in bench.outputs]
    return dict(zip(wanted, session.run(wanted, inputs), strict=True))


def trained(file: Path) -> int:
    """Parameters that training sets: all weights but the running statistics of batch normalization."""
    weights = onnx.load(file, load_external_data=False).graph.initializer
    return sum(prod(weight.dims) for weight in weights if "running" not in weight.name)


# --- values ---------------------------------------------------------------------------------------------------------


def test_names_are_the_calibrations_where_it_knows_the_network():
    known = set(Calibration.default().models())
    assert {"resnet50", "resnet101", "resnet152", "bert-99"} <= known & set(names())
    assert set(LATENCY_BOUNDS_MS) <= known


def test_bounds_are_mlperfs():
    assert (model("resnet50").latency_bound_ms, model("bert-99").latency_bound_ms) == (15.0, 130.0)
    assert model("bert-tiny").latency_bound_ms is None


@pytest.mark.parametrize(
    ("name", "bound"), [("retinanet", 100), ("ssd-resnet34", 100), ("rnnt", 1000), ("dlrm-99", 30), ("3d-unet-99", None)]
)
def test_bounds_of_the_other_models(name, bound):
    assert LATENCY_BOUNDS_MS[name] == bound


def test_an_unknown_model_says_what_was_meant():
    with pytest.raises(SpecError, match=r"model 'resnet-50' cannot be built here; did you mean 'resnet50'.*from_onnx"):
        model("resnet-50")
    with pytest.raises(SpecError, match="known: resnet50"):
        model("llama")


def test_a_twin_has_the_same_inputs_and_a_trivial_output():
    twin = echo_of(model("bert-99"))
    assert twin == model("bert-99-echo")
    assert (twin.inputs, twin.request_bytes) == (model("bert-99").inputs, 3 * 384 * 8)
    assert twin.outputs == (Tensor("echo", "FP32", (1,)),)
    assert echo_of(twin) is twin
    assert twin.latency_bound_ms is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../up"}, r"model '\.\./up' - the name becomes that of a folder"),
        ({"inputs": ()}, "it has 0 inputs and 1 outputs"),
        ({"max_batch": 0}, "max_batch is 0; 1 is least"),
    ],
)
def test_a_model_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(SpecError, match=message):
        replace(model("resnet50"), **change)


def test_a_datatype_is_tritons():
    with pytest.raises(SpecError, match=r"datatype 'float32' is unknown; known: .*FP32"):
        Tensor("x", "float32", (1,))


# --- samples and answers --------------------------------------------------------------------------------------------


def test_samples_come_from_the_seed_and_keep_their_range():
    bert = model("bert-tiny")
    first, again, other = (samples(bert, 50, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["input_ids"], other["input_ids"])
    assert first["input_ids"].dtype == np.int64
    assert (first["input_ids"].min() >= 0, first["input_ids"].max() < 30_522) == (True, True)
    assert first["input_ids"].max() > 30_000
    assert (first["input_mask"] == 1).all()
    assert set(np.unique(first["segment_ids"])) == {0, 1}


def answer(bench: BenchModel, batch: int = 2) -> tuple[dict, dict]:
    inputs = samples(bench, batch, seed=0)
    return inputs, {tensor.name: np.zeros((batch, *tensor.shape), tensor.dtype) for tensor in bench.outputs}


def test_an_answer_of_the_model_passes():
    check_answer(model("resnet50"), *answer(model("resnet50")))
    open_ended = replace(model("bert-tiny"), outputs=(Tensor("words", "INT64", (-1,)),))
    check_answer(open_ended, samples(open_ended, 2, seed=0), {"words": np.zeros((2, 17), np.int64)})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "no output 'logits' came back, only nothing"),
        ({"other": np.zeros(1)}, "no output 'logits' came back, only other"),
        ({"logits": np.zeros((1, 1000), np.float32)}, r"shape \(1, 1000\); right would be float32 of shape \(2, 1000\)"),
        ({"logits": np.zeros((2, 1000))}, "is float64 of shape"),
        ({"logits": np.full((2, 1000), np.nan, np.float32)}, "not finite"),
    ],
)
def test_other_answers_are_refused(wrong, message):
    inputs, _ = answer(model("resnet50"))
    with pytest.raises(RequestError, match=message):
        check_answer(model("resnet50"), inputs, wrong)


def test_an_echo_of_another_request_is_refused():
    echo = model("echo")
    inputs = samples(echo, 3, seed=0)
    right = echoed(echo, inputs["input"])
    check_answer(echo, inputs, {"echo": right})
    with pytest.raises(RequestError, match="right would be the echo"):
        check_answer(echo, inputs, {"echo": right[::-1]})


# --- graphs ---------------------------------------------------------------------------------------------------------


def test_resnet50_is_the_true_network(kept):
    resnet, file = model("resnet50"), graph_file(model("resnet50"), kept)
    assert trained(file) == 25_557_032  # with batch normalization, of the published architecture
    inputs = samples(resnet, 2, seed=3)
    outputs = run(resnet, file, inputs)
    check_answer(resnet, inputs, outputs)
    assert 0.1 < outputs["logits"].std() < 100
    assert not np.array_equal(*outputs["logits"])
    one = run(resnet, file, {name: values[:1] for name, values in inputs.items()})
    np.testing.assert_allclose(one["logits"], outputs["logits"][:1], rtol=1e-3, atol=1e-3)


def test_bert_has_the_true_number_of_parameters(kept):
    assert trained(graph_file(model("bert-tiny"), kept)) == SHAPES["bert-tiny"].parameters
    assert SHAPES["bert-99"].parameters == 334_094_338  # BERT-large with the two logits of SQuAD, without the pooler
    assert SHAPES["bert-base"].parameters == 108_893_186


def test_bert_attends_to_the_whole_text_but_not_to_what_is_masked(kept):
    bert, file = model("bert-tiny"), graph_file(model("bert-tiny"), kept)
    inputs = samples(bert, 2, seed=3)
    inputs["input_ids"][1] = inputs["input_ids"][0]
    inputs["segment_ids"][1] = inputs["segment_ids"][0]
    inputs["input_ids"][1, -1] += 1 if inputs["input_ids"][1, -1] == 0 else -1
    outputs = run(bert, file, inputs)
    check_answer(bert, inputs, outputs)
    assert abs(np.diff(outputs["output_start_logits"][:, :-1], axis=0)).max() > 1e-6  # another last token changes all
    inputs["input_mask"][:, -1] = 0
    masked = run(bert, file, inputs)["output_start_logits"][:, :-1]
    np.testing.assert_allclose(masked[0], masked[1], atol=1e-6)


@pytest.mark.parametrize("name", ["echo", "resnet50-echo", "bert-99-echo"])
def test_twins_echo(kept, name):
    twin = model(name)
    inputs = samples(twin, 3, seed=5)
    check_answer(twin, inputs, run(twin, graph_file(twin, kept), inputs))


@pytest.mark.parametrize("name", ["bert-tiny", "resnet50-echo"])
def test_graphs_pass_the_checker_with_shapes(kept, name):
    onnx.checker.check_model(graph_file(model(name), kept), full_check=True)


def test_large_weights_lie_beside_the_graph(tmp_path):
    def write(graph: Graph, file: Path) -> None:
        product = graph.node("MatMul", "x", graph.normal("w", (256, 256), scale=0.1))
        graph.node("Add", product, graph.normal("b", (256,), scale=1), to="y")
        graph.save(file)

    bench = BenchModel("wide", (Tensor("x", "FP32", (256,)),), (Tensor("y", "FP32", (256,)),), max_batch=4)
    with (tmp_path / "model.weights").open("wb") as weights:
        write(Graph(bench, seed=0, weights=weights), tmp_path / "model.onnx")
    assert (tmp_path / "model.weights").stat().st_size == 256 * 256 * 4  # the small ones stay in the graph
    write(Graph(bench, seed=0), tmp_path / "inline.onnx")
    inputs = samples(bench, 2, seed=1)
    beside, inline = (run(bench, tmp_path / name, inputs)["y"] for name in ("model.onnx", "inline.onnx"))
    np.testing.assert_array_equal(beside, inline)


def test_graphs_over_a_size_keep_their_weights_beside_them(tmp_path, monkeypatch):
    inline = graph_file(model("bert-tiny"), tmp_path / "inline")
    monkeypatch.setattr("benchmarks.models.graphs.building._ONE_FILE_PARAMETERS", 1_000_000)
    beside = graph_file(model("bert-tiny"), tmp_path / "beside")
    assert [sorted(path.name for path in file.parent.iterdir()) for file in (inline, beside)] == [
        ["model.onnx"],
        ["model.onnx", "model.weights"],
    ]
    inputs = samples(model("bert-tiny"), 2, seed=1)
    first, second = (run(model("bert-tiny"), file, inputs)["output_start_logits"] for file in (inline, beside))
    np.testing.assert_array_equal(first, second)


# --- the folder -----------------------------------------------------------------------------------------------------

ASK = """
import sys
from pathlib import Path
from benchmarks.models.graphs import graph_file
from benchmarks.models.model import model
"""


def ask(program: str, folder: Path) -> str:
    command = [sys.executable, "-c", ASK + program, str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_graph_is_built_once_and_is_the_same_everywhere(tmp_path):
    first = graph_file(model("bert-tiny"), tmp_path / "a")
    before = first.stat().st_mtime_ns
    assert graph_file(model("bert-tiny"), tmp_path / "a") == first
    assert first.stat().st_mtime_ns == before
    assert first.read_bytes() == graph_file(model("bert-tiny"), tmp_path / "b").read_bytes()


def test_processes_that_ask_at_the_same_time_get_one_whole_file(tmp_path):
    command = [sys.executable, "-c", ASK + "print(graph_file(model('bert-tiny'), Path(sys.argv[1])))", str(tmp_path)]
    asking = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate(timeout=60)[0].strip() for process in asking}
    assert [process.returncode for process in asking] == [0, 0, 0]
    assert len(answers) == 1
    onnx.checker.check_model(answers.pop())
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [graph_file(model("bert-tiny"), tmp_path).parent.name]


def test_what_a_killed_process_left_is_no_model(tmp_path):
    asking = "graph_file(model('resnet50'), Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", ASK + asking, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.partial")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not list(tmp_path.glob("*/model.onnx"))
    assert trained(graph_file(model("resnet50"), tmp_path)) == 25_557_032
    assert not list(tmp_path.glob(".*.partial"))


def test_the_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert graph_file(model("echo")).is_relative_to(tmp_path / "gpu-partitioner" / "models")


def test_models_of_one_name_and_other_tensors_do_not_share_a_file(tmp_path):
    other = replace(model("echo"), inputs=(Tensor("pixels", "UINT8", (8, 8)),))
    assert graph_file(model("echo"), tmp_path) != graph_file(other, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(BenchmarkError, match=r"model 'echo' - its graph cannot be kept in .*taken.*XDG_CACHE_HOME"):
        graph_file(model("echo"), tmp_path / "taken" / "models")


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    asking = (
        "from benchmarks.errors import BenchmarkError\n"
        "try: graph_file(model('bert-tiny'), Path(sys.argv[1]))\n"
        "except BenchmarkError as error: print(error)"
    )
    said = ask(limit + asking, tmp_path)
    assert "its graph cannot be kept in" in said
    assert "make room" in said
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_model_without_a_graph_says_which_have_one(tmp_path):
    with pytest.raises(SpecError, match="no graph of it is known here; known: resnet50"):
        graph_file(replace(model("resnet50"), name="vgg16"), tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_onnx_is_loaded_only_to_build(tmp_path):
    graph_file(model("echo"), tmp_path)
    asking = (
        "import benchmarks.inprocess\n"
        "graph_file(model('echo'), Path(sys.argv[1]))\n"
        "print(sorted({'onnx', 'onnxruntime', 'torch'} & set(sys.modules)))"
    )
    assert ask(asking, tmp_path).strip() == "[]"


# --- a user's own file ----------------------------------------------------------------------------------------------


def own(path: Path, *inputs: tuple[str, int, list], output: tuple = ("batch", 4)) -> Path:
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs]
    node = helper.make_node("Identity", [inputs[0][0]], ["y"])
    graph = helper.make_graph([node], "own", infos, [helper.make_tensor_value_info("y", inputs[0][1], output)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_users_file_says_its_tensors(tmp_path):
    file = own(tmp_path / "mine.onnx", ("x", TensorProto.FLOAT, ["batch", 4]), ("n", TensorProto.INT64, [None, 2, 3]))
    mine = from_onnx(file, latency_bound_ms=20)
    assert mine == BenchModel(
        "mine",
        (Tensor("x", "FP32", (4,)), Tensor("n", "INT64", (2, 3))),
        (Tensor("y", "FP32", (4,)),),
        max_batch=64,
        latency_bound_ms=20,
        file=file,
    )
    assert graph_file(mine) == file
    assert echo_of(mine).file is None


def test_open_sizes_are_asked_for_and_carried_to_the_outputs(tmp_path):
    file = own(tmp_path / "text.onnx", ("ids", TensorProto.INT64, ["batch", "tokens"]), output=("batch", "tokens"))
    with pytest.raises(SpecError, match=r"input 'ids' leaves sizes open: \(-1,\); give shapes=\{'ids': \(\.\.\.,\)\}"):
        from_onnx(file)
    mine = from_onnx(file, shapes={"ids": [384]}, name="squad")
    assert (mine.inputs[0].shape, mine.outputs[0].shape) == ((384,), (384,))


def test_a_fixed_batch_of_one_is_kept(tmp_path):
    file = own(tmp_path / "one.onnx", ("x", TensorProto.FLOAT, [1, 4]), output=(1, 4))
    assert from_onnx(file).max_batch == 1


def test_all_problems_of_a_file_are_named_at_once(tmp_path):
    file = own(
        tmp_path / "odd.onnx",
        ("x", TensorProto.FLOAT, [8, 4]),
        ("s", TensorProto.STRING, ["batch", 4]),
        ("scalar", TensorProto.FLOAT, []),
        ("fits", TensorProto.FLOAT, ["batch", 3]),
    )
    with pytest.raises(SpecError) as caught:
        from_onnx(file, shapes={"fits": (5,), "z": (1,)})
    text = [problem.message for problem in caught.value.problems]
    assert len(text) == 5
    assert "shapes name an input 'z'; the graph has x, s, scalar, fits" in text[0]
    assert "fixes the batch to 8" in text[1]
    assert "input 's' has ONNX's datatype 8" in text[2]
    assert "input 'scalar' has no batch dimension" in text[3]
    assert "given shape (5,) does not fit the graph's (3,)" in text[4]


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"no graph", "is no ONNX")])
def test_a_file_that_is_no_graph_is_refused(tmp_path, content, message):
    file = tmp_path / "model.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SpecError, match=message):
        from_onnx(file)


def test_a_file_that_went_away_is_named(tmp_path):
    file = own(tmp_path / "gone.onnx", ("x", TensorProto.FLOAT, ["batch", 4]))
    mine = from_onnx(file)
    file.unlink()
    with pytest.raises(SpecError, match=r"model 'gone' - its file .*gone\.onnx is not there"):
        graph_file(mine)


def test_missing_onnx_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "benchmarks.models.graphs.building", raising=False)
    monkeypatch.delitem(sys.modules, "benchmarks.models.graphs.writing", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BenchmarkError, match=r"pip install 'gpu-partitioner\[bench\]'"):
        graph_file(model("echo"), tmp_path)
    with pytest.raises(BenchmarkError, match=r"pip install 'gpu-partitioner\[bench\]'"):
        from_onnx(tmp_path / "model.onnx")
