"""Layouts that can be exported, and readers of what exports write."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from hypothesis import strategies as st
from strategies import legal_placements, names

from partitioner import catalog
from partitioner.fleet import Fleet, Gpu, Host
from partitioner.geometry import Configuration
from partitioner.layout import GpuLayout, Layout, Slot

MIG_MODELS = tuple(name for name in catalog.names() if "mig" in catalog.gpu(name).modes)
anything = st.text(min_size=1, max_size=12)
"""Names as nobody should give them: line ends, quotes, controls."""
HOSTS = st.none() | names | anything


@st.composite
def gpu_layouts(draw: st.DrawFn, host: str | None, gpu: int, *, models: tuple[str, ...] | None = None) -> GpuLayout:
    """One GPU in MIG mode, whole, or left as it is; occupants are called anything."""
    model = draw(st.sampled_from(models or (*MIG_MODELS, "T4")))
    mode = draw(st.sampled_from(("mig", "mig", "mig", "whole", None)))
    if mode is None or (mode == "mig" and "mig" not in catalog.gpu(model).modes):
        return GpuLayout(host, gpu, model, None)
    slots = []
    for placement in draw(legal_placements(catalog.gpu(model).geometry(mode))):
        holder = draw(st.none() | st.tuples(names | anything, st.integers(0, 3)))
        slots.append(Slot(placement.profile.name, placement.start, *(holder or (None, None))))
    return GpuLayout(host, gpu, model, mode, tuple(slots))


@st.composite
def layouts(draw: st.DrawFn, *, hosts: st.SearchStrategy[str | None] = HOSTS, max_gpus: int = 4) -> Layout:
    """A layout that every export can say."""
    places = draw(st.lists(st.tuples(hosts, st.integers(0, 5)), max_size=max_gpus, unique=True))
    return Layout.of([draw(gpu_layouts(host, gpu)) for host, gpu in places])


def fleet_of(layout: Layout) -> tuple[Fleet, dict[str | None, str]]:
    """The hosts that a layout speaks of, T4s where it names no GPU, and the name of each of its hosts there."""
    found: dict[str | None, dict[int, str]] = {}
    for gpu in layout:
        found.setdefault(gpu.host, {})[gpu.gpu] = gpu.model
    called = {host: f"host-{number}" for number, host in enumerate(found)}
    return Fleet(
        tuple(
            Host(called[host], tuple(Gpu(gpus.get(index, "T4")) for index in range(max(gpus) + 1)))
            for host, gpus in found.items()
        )
    ), called


def configuration(gpu: GpuLayout) -> Configuration:
    """The multiset of profiles on a GPU."""
    counts: dict[str, int] = {}
    for slot in gpu.slots:
        counts[slot.profile] = counts.get(slot.profile, 0) + 1
    return Configuration(counts)


def commands(script: str) -> Iterator[list[str]]:
    """The commands of a script of `nvidia_smi`, and the names of hosts as ``["host", name]``."""
    for line in script.splitlines():
        text = line.strip()
        if text.startswith("nvidia-smi"):
            yield shlex.split(text)
        elif text.startswith("'") and text.endswith(")"):
            yield ["host", shlex.split(text[:-1])[0]]


def asked(script: str, model_of: dict[tuple[str, int], str]) -> dict[tuple[str, int], set[tuple[str, int]]]:
    """(host, GPU) to the placements, as (profile, start), that a script asks for."""
    host, found = "", dict[tuple[str, int], set[tuple[str, int]]]()
    for words in commands(script):
        if words[0] == "host":
            host = words[1]
        elif "-cgi" in words:
            assert words[:3] == ["nvidia-smi", "mig", "-i"]
            assert words[-1] == "-C"
            key = host, int(words[3])
            known = catalog.gpu(model_of[key]).geometry("mig").profiles
            by_id = {str(p.gi_profile_id): p.name for p in known if p.gi_profile_id is not None}
            wanted = [text.rsplit(":", 1) for text in words[words.index("-cgi") + 1].split(",")]
            assert key not in found
            found[key] = {(by_id.get(which, which), int(start)) for which, start in wanted}
    return found
