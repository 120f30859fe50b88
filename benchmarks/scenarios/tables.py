"""The scenarios of the source documents, ready to be measured. Knows no servers and no load."""

from __future__ import annotations

from benchmarks.scenarios.scenario import Scenario

TABLE_2: tuple[Scenario, ...] = tuple(
    Scenario.parse(text, gpu="A100-80GB")
    for text in (
        "MIG nvidia-7-80c",
        "MIG nvidia-4-40c",
        "MIG nvidia-3-40c",
        "MIG nvidia-2-20c",
        "MIG nvidia-1-10c",
        "MIG nvidia-4-40c + nvidia-2-20c + nvidia-1-10c",
        "MIG nvidia-2-20c + nvidia-2-20c + nvidia-2-20c + nvidia-1-10c",
        "MIG nvidia-1-10c* 7",
    )
)
"""Table 2 of "MLPerf v1.1 Inference on Virtualized and Multi-Instance GPUs", Dell Technologies, May 2022, in its order and as
it spells them: 7g, 4g, 3g, 2g and 1g alone, 4g+2g+1g, 2g+2g+2g+1g and 7x1g of an A100 80GB."""

T4_VGPU: tuple[Scenario, ...] = tuple(
    Scenario.parse(text, gpu="T4")
    for text in (
        "1xT4-16Q",
        "4xT4-16Q",
        "2xT4-8Q",
        "4xT4-4Q",
        "8xT4-2Q",
        "16xT4-1Q",
        "2xT4-8Q + 4xT4-4Q",
        "2xT4-16Q + 2xT4-8Q + 4xT4-4Q",
    )
)
"""vGPUs of "MLPerf Inference Virtualization in VMware vSphere Using NVIDIA vGPUs", VMware, 2020: its Table 6 measures 1 and 4
T4-16Q; then one T4 cut into the smaller types of its Table 2, and mixes of sizes over two and four T4, of which each keeps
to one size."""
