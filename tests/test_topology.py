"""Topologies: real output of ``nvidia-smi topo -m`` in every shape, broken output, and sets of GPUs against brute force."""

import json
import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from partitioner.errors import SpecError
from partitioner.topology import LEVELS, Topology, read_topology

LEGEND = """
Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node
  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)
  PXB  = Connection traversing multiple PCIe bridges (without traversing the PCIe Host Bridge)
  PIX  = Connection traversing at most a single PCIe bridge
  NV#  = Connection traversing a bonded set of # NVLinks
"""

# A100 pair with NVLink and two NICs beside GPU 0; tabs, underlined header, empty cells, rows of NICs with trailing tabs.
UNDERLINED = (
    "\t\x1b[4mGPU0\tGPU1\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n"
    "GPU0\t X \tNV12\tPXB\tPIX\t0-63\t0\t\tN/A\n"
    "GPU1\tNV12\t X \tSYS\tSYS\t64-127\t1\t\tN/A\n"
    "NIC0\tPXB\tSYS\t X \tPXB\t\t\t\t\n"
    "NIC1\tPIX\tSYS\tPXB\t X \t\t\t\t\n" + LEGEND + "\nNIC Legend:\n\n  NIC0: mlx5_0\n  NIC1: mlx5_bond_1\n"
)

# Four PCIe GPUs on two sockets; pasted with spaces, after a prompt.
PASTED = """$ nvidia-smi topo -m
        GPU0    GPU1    GPU2    GPU3    NIC0    NIC1    CPU Affinity    NUMA Affinity   GPU NUMA ID
GPU0     X      NODE    SYS     SYS     NODE    SYS     0-31    0               N/A
GPU1    NODE     X      SYS     SYS     NODE    SYS     0-31    0               N/A
GPU2    SYS     SYS      X      NODE    SYS     NODE    32-63   1               N/A
GPU3    SYS     SYS     NODE     X      SYS     NODE    32-63   1               N/A
NIC0    NODE    NODE    SYS     SYS      X      SYS
NIC1    SYS     SYS     NODE    NODE    SYS      X
"""

# DGX A100 (8 GPUs behind NVSwitch): NICs under their own names, in pairs on the switch of two GPUs.
NODES = (3, 3, 1, 1, 7, 7, 5, 5)
DGX_A100 = "\t" + "\t".join([*(f"GPU{i}" for i in range(8)), *(f"mlx5_{i}" for i in range(8))])
DGX_A100 += "\tCPU Affinity\tNUMA Affinity\n"
DGX_A100 += "\n".join(
    "\t".join(
        [
            f"GPU{gpu}",
            *(" X " if gpu == other else "NV12" for other in range(8)),
            *("PXB" if gpu // 2 == nic // 2 else "SYS" for nic in range(8)),
            f"{16 * node}-{16 * node + 15},{16 * node + 128}-{16 * node + 143}",
            str(node),
        ]
    )
    for gpu, node in enumerate(NODES)
)

# DGX-1 with a driver of 2016: SOC is today's SYS, there is no NUMA column.
OLD = """\tGPU0\tGPU1\tGPU2\tGPU3\tmlx4_0\tCPU Affinity
GPU0\t X \tPHB\tSOC\tSOC\tSOC\t0-5
GPU1\tPHB\t X \tSOC\tSOC\tSOC\t0-5
GPU2\tSOC\tSOC\t X \tPHB\tPHB\t6-11
GPU3\tSOC\tSOC\tPHB\t X \tPHB\t6-11
mlx4_0\tSOC\tSOC\tPHB\tPHB\t X
"""


# -- reading -----------------------------------------------------------------------------------------------------------


def test_an_underlined_output_with_a_legend_of_nics():
    assert read_topology(UNDERLINED) == Topology(
        gpu_links=(("X", "NV12"), ("NV12", "X")),
        nics=(("mlx5_0", ("PXB", "SYS")), ("mlx5_bond_1", ("PIX", "SYS"))),
        numa_affinity=(0, 1),
    )


def test_an_output_pasted_with_spaces():
    topology = read_topology(PASTED)
    assert topology.gpu_links[2] == ("SYS", "SYS", "X", "NODE")
    assert topology.nics == (("NIC0", ("NODE", "NODE", "SYS", "SYS")), ("NIC1", ("SYS", "SYS", "NODE", "NODE")))
    assert topology.numa_affinity == (0, 0, 1, 1)


def test_a_system_with_switches():
    topology = read_topology(DGX_A100)
    assert len(topology) == 8
    assert {topology.link(a, b) for a, b in combinations(range(8), 2)} == {"NV12"}
    assert topology.numa_affinity == NODES
    assert [topology.nics_beside(gpu) for gpu in (0, 7)] == [("mlx5_0", "mlx5_1"), ("mlx5_6", "mlx5_7")]


def test_an_output_of_an_old_driver():
    topology = read_topology(OLD)
    assert topology.gpu_links[0] == ("X", "PHB", "SYS", "SYS")
    assert topology.nics == (("mlx4_0", ("SYS", "SYS", "PHB", "PHB")),)
    assert topology.numa_affinity == ()


def test_one_gpu_and_the_header_without_a_leading_tab():
    one = read_topology("GPU0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\nGPU0\t X \t0-251\t0\t\tN/A\n")
    assert one == Topology((("X",),), numa_affinity=(0,))
    assert read_topology("GPU0\tNIC0\nGPU0\t X \tPHB\n").nics == (("NIC0", ("PHB",)),)


def test_the_escape_may_stand_before_the_tab():
    text = "\x1b[4m\tGPU0\tGPU1\tCPU Affinity\x1b[0m\r\nGPU0\t X \tPIX\t0-23,48-71\r\nGPU1\tPIX\t X \t0-23,48-71\r\n"
    assert read_topology(text).link(0, 1) == "PIX"


@pytest.mark.parametrize(
    ("cells", "node"),
    [
        ("\t0-31\t1\t\tN/A", 1),
        ("\t\t1\t\tN/A", 1),
        ("\t0-31\tN/A\t\tN/A", None),
        ("\t0-31\t\t\t2", None),
        ("\t0-31\t0-1\t\tN/A", None),
        ("\t\t\t\tN/A", None),
        ("", None),
        ("   0-31   1     N/A", 1),
        ("   0-31         2", None),  # without tabs nobody can see which of the three is empty
    ],
)
def test_a_numa_node_is_taken_only_where_it_is_certain(cells, node):
    text = f"\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\nGPU0\t X \tSYS\t0-31\t0\t\tN/A\nGPU1\tSYS\t X {cells}\n"
    assert read_topology(text).numa_affinity == (0, node)


LINKS = st.sampled_from(("NV1", "NV4", "NV12", "NV18", *LEVELS[1:]))


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    n = draw(st.integers(1, 7))
    matrix = [["X"] * n for _ in range(n)]
    for one, other in combinations(range(n), 2):
        matrix[one][other] = matrix[other][one] = draw(LINKS)
    names = draw(st.lists(st.sampled_from(("mlx5_0", "mlx5_1", "irdma0", "mlx5_bond_0")), unique=True, max_size=3))
    numa = draw(st.lists(st.integers(0, 8), min_size=n, max_size=n)) if draw(st.booleans()) else []
    return Topology(matrix, [(name, draw(st.tuples(*[st.sampled_from(LEVELS[1:])] * n))) for name in names], numa)


@given(topologies(), st.sampled_from(("\t", "   ")))
def test_what_is_printed_is_read_back(topology, gap):
    gpus = [f"GPU{gpu}" for gpu in range(len(topology))]
    header = [*gpus, *(name for name, _ in topology.nics), "CPU Affinity", *["NUMA Affinity"] * bool(topology.numa_affinity)]
    lines = [gap + gap.join(header)]
    for gpu, name in enumerate(gpus):
        row = [name, *topology.gpu_links[gpu], *(links[gpu] for _, links in topology.nics), "0-31"]
        lines.append(gap.join([*row, *map(str, topology.numa_affinity[gpu : gpu + 1])]))
    assert read_topology("\n".join(lines) + LEGEND) == topology


@given(topologies())
def test_topologies_survive_json(topology):
    adapter = TypeAdapter(Topology)
    assert adapter.validate_python(json.loads(adapter.dump_json(topology, exclude_defaults=True))) == topology
    assert hash(topology) == hash(Topology(topology.gpu_links, dict(topology.nics), topology.numa_affinity))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header with GPU0 was found; give the whole output of `nvidia-smi topo -m`"),
        ("bash: nvidia-smi: command not found", "no header with GPU0 was found"),
        ("GPU0\t X \tSYS\nGPU1\tSYS\t X ", "no header with GPU0 was found"),
        ("\tGPU0\tGPU1\n", "GPU0 has a column but no row"),
        ("\tGPU0\tGPU1\nGPU0\t X \tSYS\n", "GPU1 has a column but no row"),
        ("\tGPU0\tGPU1\nGPU0\t X \tSYS\nGPU1\tSYS\n", "the row of GPU1 has 1 links for 2 devices; give the whole line"),
        ("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tSYS\t0-3\nGPU1\tSYS\t0-3\n", "GPU1 to GPU1: unknown link '0-3'"),
        (
            "\tGPU0\tGPU1\nGPU0\t X \tGNS\nGPU1\tGNS\t X \n",
            "GPU0 to GPU1: unknown link 'GNS'; links are NV1 to NV99, PIX, PXB",
        ),
        ("\tGPU0\tGPU1\nGPU0\t X \tNV0\nGPU1\tNV0\t X \n", "GPU0 to GPU1: unknown link 'NV0'"),
        ("\tGPU0\tGPU1\nGPU0\t X \tPIX\nGPU1\tSYS\t X \n", "GPU1 to GPU0 is SYS, but GPU0 to GPU1 is PIX"),
        ("\tGPU0\tNIC0\nGPU0\t X \tPIX\nNIC0\tSYS\t X \n", "GPU0 to NIC0 is PIX, but NIC0 to GPU0 is SYS"),
        ("\tGPU0\tNIC0\nGPU0\t X \tX\n", "NIC NIC0 to GPU0: unknown link 'X'"),
        ("\tGPU0\tGPU1\nGPU0\tSYS\tSYS\nGPU1\tSYS\tSYS\n", "GPU0 to itself is 'SYS', not X"),
        ("\tGPU0\tGPU1\nGPU0\t X \tX\nGPU1\tX\t X \n", "GPU0 to GPU1: unknown link 'X'"),
        ("\tGPU0\tGPU2\nGPU0\t X \tSYS\nGPU2\tSYS\t X \n", "the header names GPUs 0, 2; they count up from GPU0"),
        ("\tGPU0\tNIC0\tNIC0\nGPU0\t X \tSYS\tSYS\n", "the header names a device twice"),
        ("\tGPU0\nGPU0\t X \nGPU0\t X \n", "GPU0 has two rows; give the output of one host"),
    ],
)
def test_broken_output_is_refused(text, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        read_topology(text)


@given(st.text() | st.text("GPU01XNVSY \t\n", max_size=80))
def test_any_other_text_gives_a_topology_or_a_spec_error(text):
    try:
        topology = read_topology(text)
    except SpecError:
        return
    assert len(topology) >= 1


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpu_links": []}, "gpu_links: nothing is listed"),
        ({"gpu_links": [["X", "SYS"]]}, "GPU0 has 2 links for 1 GPUs; give one to each"),
        ({"gpu_links": [["SYS"]]}, "GPU0 to itself is 'SYS', not X"),
        ({"gpu_links": [["X", "NVLINK"], ["NVLINK", "X"]]}, "GPU0 to GPU1: unknown link 'NVLINK'"),
        ({"gpu_links": [["X", "PIX"], ["SYS", "X"]]}, "GPU0 to GPU1 is PIX, but GPU1 to GPU0 is SYS"),
        ({"gpu_links": [["X"]], "nics": {"a": ["PIX", "SYS"]}}, "NIC a has 2 links for 1 GPUs"),
        ({"gpu_links": [["X"]], "nics": {"a": ["near"]}}, "NIC a to GPU0: unknown link 'near'"),
        ({"gpu_links": [["X"]], "nics": [("a", ["PIX"]), ("a", ["PIX"])]}, "NIC 'a' is listed twice"),
        ({"gpu_links": [["X"]], "numa_affinity": [0, 1]}, "numa_affinity has 2 entries for 1 GPUs"),
        ({"gpu_links": [["X"]], "numa_affinity": [-1]}, "numa_affinity[0]: input should be greater than or equal to 0, not -1"),
        ({"gpu_links": [["X"]], "switches": 6}, "unknown field 'switches'"),
    ],
)
def test_a_wrong_topology_is_refused(fields, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        Topology(**fields)


# -- questions ---------------------------------------------------------------------------------------------------------

MIXED = Topology(
    [["X", "NV4", "PIX", "SYS"], ["NV4", "X", "PXB", "SYS"], ["PIX", "PXB", "X", "NODE"], ["SYS", "SYS", "NODE", "X"]],
    {"far": ["PHB", "PXB", "SYS", "NODE"], "near": ["SYS", "PIX", "PIX", "SYS"]},
)


@pytest.mark.parametrize(
    ("gpus", "worst", "allowed"),
    [
        ((0, 1), "NVLINK", True),
        ((0, 2), "NVLINK", False),
        ((0, 2), "PIX", True),
        ((0, 1), "PIX", True),
        ((0, 1, 2), "PIX", False),
        ((0, 1, 2), "PXB", True),
        ((0, 1, 2, 3), "NODE", False),
        ((0, 1, 2, 3), "SYS", True),
        ((0, 1, 2, 3), None, True),
        ((2, 2), "NVLINK", True),
        ((), "NVLINK", True),
    ],
)
def test_whether_gpus_are_linked_well_enough(gpus, worst, allowed):
    assert MIXED.allows(gpus, worst) is allowed


def test_nics_for_rdma_are_those_behind_pcie_switches_only_nearest_first():
    assert [MIXED.nics_beside(gpu) for gpu in range(4)] == [(), ("near", "far"), ("near",), ()]
    assert MIXED.link(0, 1) == "NV4"
    assert MIXED.link(1, 1) == "X"


def test_two_gpus_may_share_a_nic():
    assert list(MIXED.groups(2, rdma=True)) == [(1, 2)]


def test_pairs_under_nvlink_bridges():
    bridged = Topology([["X" if a == b else "NV12" if a // 2 == b // 2 else "SYS" for b in range(8)] for a in range(8)])
    assert list(bridged.groups(2, "NVLINK")) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert list(bridged.groups(3, "NVLINK")) == []
    assert len(list(bridged.groups(4))) == 70


@given(topologies(), st.integers(1, 8), st.none() | st.sampled_from(LEVELS), st.booleans())
def test_groups_are_all_that_brute_force_finds(topology, size, worst, rdma):
    expected = []
    for gpus in combinations(range(len(topology)), size):
        ranks = [topology.gpu_links[a][b].rstrip("0123456789").replace("NV", "NVLINK") for a, b in combinations(gpus, 2)]
        near = worst is None or all(LEVELS.index(rank) <= LEVELS.index(worst) for rank in ranks)
        beside = all(any(links[gpu] in ("PIX", "PXB") for _, links in topology.nics) for gpu in gpus)
        if near and (beside or not rdma):
            expected.append(gpus)
    assert list(topology.groups(size, worst, rdma=rdma)) == expected


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: MIXED.allows((0, 1), "NV4"), "unknown level 'NV4'; levels are NVLINK, PIX, PXB, PHB, NODE, SYS, best first"),
        (lambda: MIXED.groups(2, "near"), "unknown level 'near'"),
        (lambda: MIXED.groups(0), "a group of 0 GPUs; ask for at least 1"),
    ],
)
def test_wrong_questions_are_refused_at_once(ask, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        ask()
