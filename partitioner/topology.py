"""How the GPUs and network adapters (NICs) of one host are linked: read from ``nvidia-smi topo -m``, and asked by the planner.

Values only; must not know GPU models, fleets or workloads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from partitioner.boundary import VALUE, Number, raises_spec_error
from partitioner.errors import SpecError

Level = Literal["NVLINK", "PIX", "PXB", "PHB", "NODE", "SYS"]
"""How near two devices are, as `nvidia-smi` calls it."""
LEVELS: tuple[Level, ...] = get_args(Level)
"""All levels, best first: NVLink; one PCIe bridge; several; the host bridge (CPU); one NUMA node; across NUMA nodes."""
RDMA_LEVELS: tuple[Level, ...] = ("PIX", "PXB")
"""Links between a GPU and a NIC that never leave the PCIe switches."""

_SELF = "X"
_NVLINK = re.compile(r"NV([1-9]\d?)")
_OLD_NAMES = {"SOC": "SYS"}  # drivers of 2016 and before
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # the header is underlined, on a terminal or not
_GPU = re.compile(r"GPU(\d+)")
_AFFINITY = re.compile(r"(CPU Affinity|NUMA Affinity|GPU NUMA ID)")
_NIC_NAME = re.compile(r"\s*(NIC\d+):\s*(\S+)\s*")
_KNOWN = "NV1 to NV99, PIX, PXB, PHB, NODE, SYS"


def _level(link: str) -> int | None:
    """Rank of a link as it stands in the matrix, 0 being best; None where the name is unknown."""
    if _NVLINK.fullmatch(link):
        return 0
    return LEVELS.index(link) if link in LEVELS[1:] else None


def _pairs(value: object) -> object:
    return tuple(value.items()) if isinstance(value, Mapping) else value


_Links = tuple[str, ...]


@raises_spec_error
@dataclass(frozen=True, slots=True, config=VALUE)
class Topology:
    """The links between the GPUs of one host, and between them and its NICs.

    Parameters
    ----------
    gpu_links : for each GPU its link to each GPU, ``NV1`` to ``NV99``, ``PIX``, ``PXB``, ``PHB``, ``NODE`` or ``SYS``,
        and ``X`` to itself; symmetric, shape ``(n_gpus, n_gpus)``.
    nics : for each NIC its name and its link to each GPU; also a mapping of names to links.
    numa_affinity : NUMA node nearest to each GPU, None where it is not known; empty where none is.

    Raises
    ------
    SpecError
        A link is unknown, a row has another length, or the matrix is not symmetric.

    Examples
    --------
    >>> Topology([["X", "NV12"], ["NV12", "X"]]).link(0, 1)
    'NV12'
    """

    gpu_links: Annotated[tuple[_Links, ...], Field(min_length=1)]
    nics: Annotated[tuple[tuple[str, _Links], ...], BeforeValidator(_pairs)] = ()
    numa_affinity: tuple[Annotated[int, Number, Field(ge=0)] | None, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Topology:
        for number, row in enumerate(self.gpu_links):
            self._check_row(f"GPU{number}", row, itself=number)
            for other in range(number):
                there, back = row[other], self.gpu_links[other][number]
                if there != back:
                    raise ValueError(f"GPU{other} to GPU{number} is {back}, but GPU{number} to GPU{other} is {there}")
        names = [name for name, _ in self.nics]
        for number, (name, row) in enumerate(self.nics):
            if name in names[:number]:
                raise ValueError(f"NIC {name!r} is listed twice")
            self._check_row(f"NIC {name}", row)
        if self.numa_affinity and len(self.numa_affinity) != len(self):
            raise ValueError(
                f"numa_affinity has {len(self.numa_affinity)} entries for {len(self)} GPUs; give one for each or none"
            )
        return self

    def _check_row(self, who: str, row: _Links, itself: int | None = None) -> None:
        if len(row) != len(self):
            raise ValueError(f"{who} has {len(row)} links for {len(self)} GPUs; give one to each")
        for number, link in enumerate(row):
            if number == itself:
                if link != _SELF:
                    raise ValueError(f"{who} to itself is {link!r}, not X")
            elif _level(link) is None:
                raise ValueError(f"{who} to GPU{number}: unknown link {link!r}; links are {_KNOWN}")

    def __len__(self) -> int:
        """Return the number of GPUs."""
        return len(self.gpu_links)

    def link(self, first: int, second: int) -> str:
        """Return the link between two GPUs as the driver names it, e.g. ``NV12`` or ``SYS``; ``X`` for one and the same."""
        return self.gpu_links[first][second]

    def allows(self, gpus: Iterable[int], worst: Level | None) -> bool:
        """Whether every two of some GPUs are linked at least as well as a level.

        Parameters
        ----------
        gpus : indices of GPUs; equal ones are one GPU.
        worst : the worst level allowed; None allows all.

        Raises
        ------
        SpecError
            There is no such level.
        """
        limit = _limit(worst)
        chosen = sorted(set(gpus))
        return all(self._within(a, b, limit) for i, a in enumerate(chosen) for b in chosen[:i])

    def _within(self, first: int, second: int, limit: int) -> bool:
        level = _level(self.gpu_links[first][second])
        return level is not None and level <= limit

    def nics_beside(self, gpu: int) -> tuple[str, ...]:
        """Return the NICs to which a GPU has a path for GPUDirect RDMA, nearest first.

        Notes
        -----
        NVIDIA's GPUDirect RDMA manual wants the NIC and the GPU on the same PCIe root complex, and VMware's guide for
        GPUDirect RDMA in virtual machines the same; its full rate needs a path through PCIe switches alone (PIX, PXB),
        since a path through the host bridge (PHB and farther) goes through the CPU. No source asks for a NIC of its own
        for each GPU: Dell's measurements with VMware (MLPerf blog of May 2022) have one dual-port adapter in a host of
        four GPUs. So GPUs may share a NIC here.
        """
        near = [(RDMA_LEVELS.index(row[gpu]), name) for name, row in self.nics if row[gpu] in RDMA_LEVELS]
        return tuple(name for _, name in sorted(near, key=lambda entry: entry[0]))

    def groups(self, size: int, worst: Level | None = None, *, rdma: bool = False) -> Iterator[tuple[int, ...]]:
        """Iterate over all sets of GPUs that one job may take.

        Parameters
        ----------
        size : GPUs in a set.
        worst : the worst link allowed between any two of a set; None allows all.
        rdma : whether each GPU needs a NIC beside it (`nics_beside`).

        Returns
        -------
        Ascending indices, the sets in lexicographic order, lazily.

        Raises
        ------
        SpecError
            There is no such level, or `size` is not positive.

        Examples
        --------
        >>> pair = ["X", "NV12", "SYS"], ["NV12", "X", "SYS"], ["SYS", "SYS", "X"]
        >>> list(Topology(pair).groups(2, "NVLINK"))
        [(0, 1)]

        Notes
        -----
        The cliques of a graph: each set grows by GPUs that are linked to all in it, and is given up when too few are
        left. There are at most C(16, 8) = 12,870 sets in a host of 16 GPUs.
        """
        if size < 1:
            raise SpecError(f"a group of {size} GPUs; ask for at least 1")
        limit = _limit(worst)
        usable = [gpu for gpu in range(len(self)) if not rdma or self.nics_beside(gpu)]

        def grow(chosen: tuple[int, ...], left: list[int]) -> Iterator[tuple[int, ...]]:
            if len(chosen) == size:
                yield chosen
                return
            for position in range(len(left) - (size - len(chosen)) + 1):
                gpu = left[position]
                yield from grow((*chosen, gpu), [other for other in left[position + 1 :] if self._within(gpu, other, limit)])

        return grow((), usable)


def _limit(worst: Level | None) -> int:
    if worst is None:
        return len(LEVELS)
    if worst not in LEVELS:
        raise SpecError(f"unknown level {worst!r}; levels are {', '.join(LEVELS)}, best first")
    return LEVELS.index(worst)


# -- reading -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)  # the hosts of a rack print the same text
def read_topology(text: str) -> Topology:
    r"""Read what ``nvidia-smi topo -m`` prints.

    Parameters
    ----------
    text : the whole output, or the matrix alone; with tabs as printed or with spaces as pasted; underlined or not.
        NICs have the names of the legend where there is one (``NIC0: mlx5_0``).

    Raises
    ------
    SpecError
        There is no matrix, a row is missing, too short or stands twice, a link is unknown, or the matrix is not
        symmetric.

    Examples
    --------
    >>> topology = read_topology("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tPHB\t0-11\nGPU1\tPHB\t X \t0-11")
    >>> len(topology), topology.link(0, 1)
    (2, 'PHB')
    """
    lines = [_ESCAPE.sub("", line) for line in text.splitlines()]
    header = next((number for number, line in enumerate(lines) if _is_header(line)), None)
    if header is None:
        raise SpecError("no header with GPU0 was found; give the whole output of `nvidia-smi topo -m`")
    devices, affinities = _columns(lines[header])
    rows = _rows(lines[header + 1 :], devices)
    gpus = [name for name in devices if _GPU.fullmatch(name)]
    missing = [name for name in gpus if name not in rows]
    if missing:
        raise SpecError(f"{missing[0]} has a column but no row; give the whole output of `nvidia-smi topo -m`")
    links = {name: _links(name, line, devices) for name, line in rows.items()}
    _check_symmetry(links, gpus)
    legend = {match[1]: match[2] for line in lines if (match := _NIC_NAME.fullmatch(line))}
    nics = {legend.get(name, name): tuple(links[gpu][name] for gpu in gpus) for name in devices if name not in gpus}
    nodes = tuple(_numa_node(rows[name], len(devices), affinities) for name in gpus)
    return Topology(
        tuple(tuple(links[gpu][other] for other in gpus) for gpu in gpus),
        tuple(nics.items()),
        nodes if any(node is not None for node in nodes) else (),
    )


def _is_header(line: str) -> bool:
    """Whether a line names devices; a row of the matrix begins like the header of one GPU, and has links."""
    words = _AFFINITY.split(line)[0].split()
    return words[:1] == ["GPU0"] and not any(word == _SELF or _level(word) is not None for word in words[1:])


def _columns(header: str) -> tuple[list[str], list[str]]:
    """Names of the devices, and of the columns of affinities after them."""
    devices = _AFFINITY.split(header)[0].split()
    numbers = [int(match[1]) for name in devices if (match := _GPU.fullmatch(name))]
    if numbers != list(range(len(numbers))):
        raise SpecError(f"the header names GPUs {', '.join(map(str, numbers))}; they count up from GPU0")
    if len(set(devices)) < len(devices):
        raise SpecError("the header names a device twice")
    return devices, _AFFINITY.findall(header)


def _rows(lines: Iterable[str], devices: list[str]) -> dict[str, str]:
    """Name of a device to its line; the legend after the matrix is passed over."""
    rows: dict[str, str] = {}
    for line in lines:
        words = line.split()
        if not words or words[0] not in devices:
            continue
        if words[0] in rows:
            raise SpecError(f"{words[0]} has two rows; give the output of one host")
        rows[words[0]] = line
    return rows


def _links(name: str, line: str, devices: list[str]) -> dict[str, str]:
    """Links of one device to all devices, by name."""
    found: dict[str, str] = {}
    for other, word in zip(devices, line.split()[1:], strict=False):
        link = _OLD_NAMES.get(word, word)
        if link != _SELF and _level(link) is None:
            raise SpecError(f"{name} to {other}: unknown link {word!r}; links are {_KNOWN}")
        found[other] = link
    if len(found) < len(devices):
        raise SpecError(f"the row of {name} has {len(found)} links for {len(devices)} devices; give the whole line")
    return found


def _check_symmetry(links: Mapping[str, Mapping[str, str]], gpus: list[str]) -> None:
    """Rows of NICs, where there are any, say the same as the columns of NICs."""
    for name, row in links.items():
        for gpu in gpus:
            if row[gpu] != links[gpu][name]:
                raise SpecError(f"{gpu} to {name} is {links[gpu][name]}, but {name} to {gpu} is {row[gpu]}")


def _numa_node(line: str, n_devices: int, affinities: list[str]) -> int | None:
    """Node in the column NUMA Affinity, if it is one number."""
    if "NUMA Affinity" not in affinities:
        return None
    cells, words = [cell.strip() for cell in line.split("\t")], line.split()
    if cells[: 1 + n_devices] != words[: 1 + n_devices]:  # pasted with spaces, where empty cells cannot be seen
        if len(words) < 1 + n_devices + len(affinities):
            return None
        cells = words
    column = 1 + n_devices + affinities.index("NUMA Affinity")
    return int(cells[column]) if column < len(cells) and cells[column].isdecimal() else None
