"""What NVIDIA's MLPerf Inference v1.1 harness knows: its systems, the settings of its benchmarks, its names. Facts only.

Source of every name and number: https://github.com/mlcommons/inference_results_v1.1 (commit 7fc4335), closed/NVIDIA:
``code/common/system_list.py`` (systems), ``code/common/constants.py`` (names), ``code/common/fields.py`` (fields that a
configuration needs and may have), ``code/common/harness.py`` (samples of the query sample library), and
``configs/<benchmark>/<scenario>/__init__.py``, classes ``A100_SXM_80GB_MIG_1x1g10gb*`` (settings, those with Triton where they
differ) and ``A100_PCIe_80GBx1*``, ``A100_PCIe_80GBx8``, ``A100_SXM_80GBx1_HighAccuracy`` (batches of a whole GPU).
``start_from_device`` is left out: the harness takes it from listed systems only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Setting = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Board:
    """A GPU board as the harness lists it.

    Parameters
    ----------
    attribute : its name in class ``KnownSystems``.
    gpu_id : with which the ids of its systems begin.
    aliases : names of the board as ``nvidia-smi`` prints them.
    pci_ids : PCI device ids, which count before the names.
    counts : numbers of boards in one system.
    """

    attribute: str
    gpu_id: str
    aliases: tuple[str, ...]
    pci_ids: tuple[str, ...]
    counts: tuple[int, ...]


BOARDS: Mapping[str, tuple[Board, ...]] = {
    "A100-80GB": (
        Board("A100_PCIe_80GB", "A100-PCIe-80GB", ("A100-PCIE-80GB",), ("20B5",), (1, 2, 8)),
        Board("A100_SXM_80GB", "A100-SXM-80GB", ("A100-SXM-80GB",), ("20B2",), (1, 4, 8)),
    ),
    "A100-40GB": (
        Board("A100_PCIe_40GB", "A100-PCIe", ("A100-PCIE-40GB",), ("20F1", "20BF"), (1, 2, 8)),
        Board("A100_SXM4_40GB", "A100-SXM4-40GB", ("A100-SXM4-40GB",), ("20B0",), (1, 8)),
    ),
    "A30-24GB": (Board("A30", "A30", ("A30",), ("20B7",), (1, 8)),),
}
"""Boards with MIG by GPU model of the catalogue, the one of the source document first."""

SYSTEM_PREFIXES = (("A100-SXM-80GBx4", "DGX-Station-A100"), ("A100-SXM", "DGX-A100"))
"""What the harness puts before the ids of systems that contain a text, in folders of measurements; the first counts."""

SCENARIOS: Mapping[str, str] = {"offline": "Offline", "server": "Server", "single_stream": "SingleStream"}
"""MLPerf's scenarios that the harness has, by mode."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark as the harness knows it.

    Parameters
    ----------
    member : of enum ``Benchmark``.
    folder : its name, and its folder in ``configs``.
    full_name : with the accuracy target, its folder in ``measurements``.
    high_accuracy : whether the target is 99.9% of FP32 instead of 99%.
    own_harness : member of enum ``HarnessType`` that runs it without Triton.
    samples : of the query sample library that are loaded.
    settings : of every configuration, then by MLPerf's scenario.
    batches : by MLPerf's scenario, of 1g of an A100 and of a whole one.
    """

    member: str
    folder: str
    full_name: str
    high_accuracy: bool
    own_harness: str
    samples: int
    settings: Mapping[str, Mapping[str, Setting]]
    batches: Mapping[str, tuple[int, int]]


_SQUAD = "${PREPROCESSED_DATA_DIR}/squad_tokenized"

_RESNET50: Mapping[str, Mapping[str, Setting]] = {
    "": {
        "precision": "int8",
        "input_dtype": "int8",
        "input_format": "linear",
        "map_path": "data_maps/imagenet/val_map.txt",
        "tensor_path": "${PREPROCESSED_DATA_DIR}/imagenet/ResNet50/int8_linear",
        "gpu_inference_streams": 1,
    },
    "Offline": {"use_graphs": False, "gpu_copy_streams": 2, "run_infer_on_copy_streams": True},
    "Server": {
        "use_graphs": False,
        "gpu_copy_streams": 1,
        "active_sms": 100,
        "use_deque_limit": True,
        "deque_timeout_usec": 1000,
    },
    "SingleStream": {"use_graphs": True, "gpu_copy_streams": 1, "single_stream_expected_latency_ns": 660_000},
}
_SSD_RESNET34: Mapping[str, Mapping[str, Setting]] = {
    "": {
        "precision": "int8",
        "input_dtype": "int8",
        "input_format": "linear",
        "map_path": "data_maps/coco/val_map.txt",
        "tensor_path": "${PREPROCESSED_DATA_DIR}/coco/val2017/SSDResNet34/int8_linear",
    },
    "Offline": {"use_graphs": False, "gpu_copy_streams": 2, "gpu_inference_streams": 2},
    "Server": {
        "use_graphs": False,
        "gpu_copy_streams": 2,
        "gpu_inference_streams": 2,
        "active_sms": 100,
        "use_deque_limit": True,
        "deque_timeout_usec": 1000,
        "use_cuda_thread_per_device": False,
    },
    "SingleStream": {
        "use_graphs": True,
        "gpu_copy_streams": 1,
        "gpu_inference_streams": 1,
        "single_stream_expected_latency_ns": 1_900_000,
    },
}
_UNET3D: Mapping[str, Mapping[str, Setting]] = {
    "": {
        "precision": "int8",
        "input_dtype": "fp16",
        "input_format": "linear",
        "map_path": "data_maps/brats/val_map.txt",
        "tensor_path": "${PREPROCESSED_DATA_DIR}/brats/brats_npy/fp16_linear",
        "use_graphs": False,
        "workspace_size": 1_073_741_824,
        "gpu_copy_streams": 1,
        "gpu_inference_streams": 1,
    },
    "Offline": {},
    "SingleStream": {"single_stream_expected_latency_ns": 25_000_000},
}


def _bert(precision: str, workspace: int) -> Mapping[str, Mapping[str, Setting]]:
    return {
        "": {
            "precision": precision,
            "input_dtype": "int32",
            "input_format": "linear",
            "tensor_path": ",".join(f"{_SQUAD}/{name}.npy" for name in ("input_ids", "segment_ids", "input_mask")),
            "coalesced_tensor": True,
        },
        "Offline": {
            "use_graphs": False,
            "bert_opt_seqlen": 384,
            "enable_interleaved": False,
            "gpu_copy_streams": 2,
            "gpu_inference_streams": 2,
            "use_small_tile_gemm_plugin": True,
            "gemm_plugin_fairshare_cache_size": 120,
            "workspace_size": workspace,
        },
        "Server": {
            "use_graphs": True,
            "bert_opt_seqlen": 384,
            "enable_interleaved": False,
            "gpu_copy_streams": 1,
            "gpu_inference_streams": 1,
            "use_small_tile_gemm_plugin": True,
            "gemm_plugin_fairshare_cache_size": 120,
            "active_sms": 100,
            "graphs_max_seqlen": 200,
            "server_num_issue_query_threads": 0,
            "soft_drop": 0.99,
        },
        "SingleStream": {
            "use_graphs": True,
            "bert_opt_seqlen": 270,
            "gpu_copy_streams": 1,
            "gpu_inference_streams": 1,
            "use_small_tile_gemm_plugin": False,
            "workspace_size": workspace,
            "single_stream_expected_latency_ns": 1_700_000,
        },
    }


_BERT_INT8, _BERT_FP16 = _bert("int8", 2_147_483_648), _bert("fp16", 2_147_483_648)
_ONE = (1, 1)

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.full_name: benchmark
    for benchmark in (
        Benchmark(
            "ResNet50",
            "resnet50",
            "resnet50",
            False,
            "LWIS",
            2048,
            _RESNET50,
            {"Offline": (256, 2048), "Server": (8, 64), "SingleStream": _ONE},
        ),
        Benchmark(
            "BERT",
            "bert",
            "bert-99",
            False,
            "Custom",
            10_833,
            _BERT_INT8,
            {"Offline": (64, 1024), "Server": (16, 64), "SingleStream": _ONE},
        ),
        Benchmark(
            "BERT",
            "bert",
            "bert-99.9",
            True,
            "Custom",
            10_833,
            _BERT_FP16,
            {"Offline": (32, 512), "Server": (16, 24), "SingleStream": _ONE},
        ),
        Benchmark(
            "SSDResNet34",
            "ssd-resnet34",
            "ssd-resnet34",
            False,
            "LWIS",
            64,
            _SSD_RESNET34,
            {"Offline": (32, 64), "Server": (2, 8), "SingleStream": _ONE},
        ),
        Benchmark("UNET3D", "3d-unet", "3d-unet-99", False, "LWIS", 16, _UNET3D, {"Offline": (1, 2), "SingleStream": _ONE}),
        Benchmark("UNET3D", "3d-unet", "3d-unet-99.9", True, "LWIS", 16, _UNET3D, {"Offline": (1, 2), "SingleStream": _ONE}),
    )
}
"""Benchmarks that can be exported, by MLPerf's name."""
