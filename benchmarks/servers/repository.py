"""Model repositories of Triton: generated for a model, or a user's own, looked at before a server hangs on it.

Knows Triton's files; starts nothing and asks nobody.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import ServerError
from benchmarks.models.model import BenchModel, Tensor
from benchmarks.servers.find import Tritonserver

_PROGRAMS = Path(__file__).with_name("serving")
_PACKAGES = ("numpy", "onnxruntime")  # what the programs of the Python backend import


@dataclass(frozen=True, slots=True)
class Serving:
    """How a server runs a model.

    Parameters
    ----------
    processes : copies of the model that run at the same time (MPS on a GPU has the same effect).
    threads : of one inference on a CPU.
    on_gpu : whether it runs on a GPU.
    """

    processes: int = 1
    threads: int = 1
    on_gpu: bool = False


def write_repository(folder: Path, graphs: Mapping[BenchModel, Path | None], *, program: Tritonserver, serving: Serving) -> None:
    """Write a model repository, with Triton's own ONNX Runtime backend where the server has it, else with its Python backend.

    Parameters
    ----------
    folder : to write into; made where it is not there.
    graphs : the models, each with its ONNX file; None of one that echoes.
    program : the server that will read it.
    serving : how the models are run.

    Raises
    ------
    ServerError
        The files cannot be written.
    """
    try:
        for model, graph in graphs.items():
            version = folder / model.name / "1"
            version.mkdir(parents=True, exist_ok=True)
            (folder / model.name / "config.pbtxt").write_text(_config(model, graph, program, serving))
            if graph is not None and program.has_backend("onnxruntime"):
                _link_graph(graph, version)
            else:
                (version / "model.py").write_text(_program(model, program))
    except OSError as error:
        raise ServerError(
            f"model repository {folder} - cannot be written: {error.strerror}; free space, or say another folder"
        ) from error


def check_repository(folder: Path, model: str) -> None:
    """Look whether a repository has a model that a server could load; Triton waits for minutes where a program is missing.

    Parameters
    ----------
    folder : the repository.
    model : name of the model.

    Raises
    ------
    ServerError
        The repository, the model, a version of it, or the program of the Python backend is missing.
    """
    if not folder.is_dir():
        raise ServerError(f"model repository {folder} - is no folder; give the one that holds a folder for each model")
    place = folder / model
    if not place.is_dir():
        have = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
        raise ServerError(f"model repository {folder} - has no model {model!r}; it has {have or 'none'}")
    versions = sorted(path for path in place.iterdir() if path.is_dir() and path.name.isdigit() and int(path.name))
    if not versions:
        raise ServerError(f"model repository {folder} - model {model!r} has no version; put its file into {place / '1'}")
    config = place / "config.pbtxt"
    text = config.read_text(errors="replace") if config.is_file() else ""
    if re.search(r'backend\s*:\s*"python"', text) and "default_model_filename" not in text:
        missing = [path for path in versions if not (path / "model.py").is_file()]
        if missing:
            raise ServerError(f"model repository {folder} - model {model!r} has no program {missing[0] / 'model.py'}")


def _config(model: BenchModel, graph: Path | None, program: Tritonserver, serving: Serving) -> str:
    """Return the text of config.pbtxt; complete, so that the server need not load the model twice to find the rest."""
    native = graph is not None and program.has_backend("onnxruntime")
    kind = "KIND_GPU" if serving.on_gpu and graph is not None else "KIND_CPU"
    parameters = {}
    if native:
        parameters = {"intra_op_thread_count": str(serving.threads), "inter_op_thread_count": "1"}
    elif graph is not None:
        parameters = {"graph": str(graph.resolve()), "threads": str(serving.threads)}
    lines = [
        f"name: {_quoted(model.name)}",
        f'backend: "{"onnxruntime" if native else "python"}"',
        f"max_batch_size: {model.max_batch}",
        *(f"input [{_tensor(tensor)}]" for tensor in model.inputs),
        *(f"output [{_tensor(tensor)}]" for tensor in model.outputs),
        f"instance_group [{{ kind: {kind} count: {serving.processes if graph is not None else 1} }}]",
        "dynamic_batching { }",
        *(
            f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _tensor(tensor: Tensor) -> str:
    sizes = ", ".join(map(str, tensor.shape))
    return f"{{ name: {_quoted(tensor.name)} data_type: TYPE_{tensor.datatype} dims: [ {sizes} ] }}"


def _quoted(text: str) -> str:
    """Return a string as protobuf's text format has it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _link_graph(graph: Path, version: Path) -> None:
    """Put a graph, and what it keeps in files beside it, where Triton's ONNX Runtime backend looks."""
    for path in graph.resolve().parent.glob(f"{graph.stem}*"):
        link = version / ("model.onnx" if path.name == graph.resolve().name else path.name)
        link.unlink(missing_ok=True)
        link.symlink_to(path)


def _program(model: BenchModel, program: Tritonserver) -> str:
    """Return model.py; the stub of nvidia-pytriton runs isolated, so it is told where the packages of this interpreter are."""
    source = (_PROGRAMS / ("echo_model.py" if model.echoes else "onnx_model.py")).read_text()
    if program.stub is None:
        return source
    return source.replace("import json\n", f"import sys\n\nsys.path[:0] = {_package_folders()!r}\n\nimport json\n", 1)


def _package_folders() -> list[str]:
    specs = (importlib.util.find_spec(name) for name in _PACKAGES)
    return list(dict.fromkeys(str(Path(spec.origin).parent.parent) for spec in specs if spec and spec.origin))
