"""What Kubernetes' dynamic resource allocation needs for a plan's replicas. Must not know nodes or mig-parted.

Attributes and classes are those of NVIDIA's DRA driver (kubernetes-sigs/dra-driver-nvidia-gpu, cmd/gpu-kubelet-plugin/
deviceinfo.go and mig.go, read at 95932046, 2026-08-07): ``type``, ``profile``, ``productName``, ``parentUUID``, and, for
MIG devices that were there before the driver started, a capacity ``memorySlice<i>`` for each memory slice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from partitioner import catalog
from partitioner.catalog.naming import drifted_gb
from partitioner.export.machines import Machine, checked_uuid
from partitioner.export.names import Names
from partitioner.geometry import Profile
from partitioner.layout import GpuLayout, Slot, gpu_label

API = "resource.k8s.io/v1"
DRIVER = "gpu.nvidia.com"
MANAGED = {"app.kubernetes.io/managed-by": "gpu-partitioner"}
Claims = Literal["template", "replica"]

_DEVICE = f'device.attributes["{DRIVER}"]'

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """A placement that a replica holds."""

    gpu: GpuLayout
    slot: Slot

    @property
    def kind(self) -> tuple[str, str]:
        """GPU model and profile."""
        return self.gpu.model, self.slot.profile


Replica = tuple[str, int]
"""Name of the workload, number of the replica."""


def pieces_of(every: tuple[Machine, ...]) -> dict[Replica, list[Piece]]:
    """Return what each replica holds, workloads in the order in which the layout names them."""
    found: dict[Replica, list[Piece]] = {}
    for machine in every:
        for gpu in machine.gpus:
            for slot in gpu.slots:
                if slot.workload is not None:
                    found.setdefault((slot.workload, slot.replica or 0), []).append(Piece(gpu, slot))
    return found


def dra_objects(every: tuple[Machine, ...], *, namespace: str, claims: Claims) -> tuple[Object, ...]:
    """Return a DeviceClass for each kind of device in use, then the claims, or templates of claims, of all workloads.

    Parameters
    ----------
    every : the hosts.
    namespace : of the claims.
    claims : ``template``: one template for the replicas of a workload that hold the same kinds of devices; ``replica``: a
        claim for each replica that asks for its very placement.
    """
    held = pieces_of(every)
    classes = Names()
    kinds = sorted({piece.kind for pieces in held.values() for piece in pieces})
    names = {kind: classes.of(*_class_parts(kind)) for kind in kinds}
    made = [_device_class(name, kind) for kind, name in names.items()]
    if claims == "template":
        return (*made, *_templates(held, names, namespace))
    return (*made, *_claims(held, names, namespace))


def _class_parts(kind: tuple[str, str]) -> tuple[str, str]:
    """Return what the name of a class is made of: ``a100-80gb`` and ``3g-40gb``; ``+me`` and ``-me`` are two things."""
    model, profile = kind
    return model.lower().replace(".", "-"), profile.lower().replace(".", "-").replace("+", "-plus-")


# -- device classes ----------------------------------------------------------------------------------------------------


def _device_class(name: str, kind: tuple[str, str]) -> Object:
    model, profile = kind
    return {
        "apiVersion": API,
        "kind": "DeviceClass",
        "metadata": {
            "name": f"{name}.gpu-partitioner",
            "labels": dict(MANAGED),
            "annotations": {"gpu-partitioner/model": model, "gpu-partitioner/profile": profile},
        },
        "spec": {"selectors": [{"cel": {"expression": device_expression(model, profile)}}]},
    }


def device_expression(model: str, profile: str) -> str:
    """Return the CEL expression that is true of the devices of a profile on a GPU model.

    Parameters
    ----------
    model : GPU model of the catalogue.
    profile : a MIG profile of it, or ``whole``.
    """
    terms = [f'device.driver == "{DRIVER}"']
    if profile == "whole":
        terms.append(f'{_DEVICE}.type == "gpu"')
    else:
        spellings = profile_names(model, catalog.gpu(model).geometry("mig").profile(profile))
        terms += [f'{_DEVICE}.type == "mig"', f"{_DEVICE}.profile in [{', '.join(map(_quoted, spellings))}]"]
    own, rivals = _products(model), _rivals(model)
    if own:
        terms.append(f"{_DEVICE}.productName.matches({_quoted(product_pattern(own))})")
    if rivals:
        terms.append(f"!{_DEVICE}.productName.matches({_quoted(product_pattern(rivals))})")
    return " && ".join(terms)


def profile_names(model: str, profile: Profile) -> tuple[str, ...]:
    """Return the names that drivers give a MIG profile: the catalogue's first, then those that differ by the driver."""
    known = catalog.gpu(model)
    gbs = drifted_gb(profile.extent, known.geometry("mig").units, known.record.memory_gib)
    suffix = re.sub(r"^[^+-]*", "", profile.name)
    drifted = [f"{profile.compute_slices}g.{gb}gb{suffix}" for gb in sorted(gbs)]
    spelled = [name for name in profile.aliases if re.match(r"\d+g\.\d+gb", name)]
    return tuple(
        name for name in dict.fromkeys([profile.name, *spelled, *drifted]) if dict(known.find(name)).get("mig") == profile
    )


def product_pattern(products: Iterable[str]) -> str:
    """Return a regular expression for the driver's names of GPUs; the driver may add words (``NVIDIA B300 SXM6 AC``)."""
    escaped = (re.sub(r"([.^$*+?()\[\]{}|\\])", r"\\\1", name) for name in products)
    return f"^({'|'.join(escaped)})( .*)?$"


def _products(model: str) -> tuple[str, ...]:
    """Return the driver's names of a GPU model; what stands in brackets in the catalogue is its own remark."""
    return tuple(dict.fromkeys(re.sub(r"\s*\(.*\)$", "", name) for name in catalog.gpu(model).record.product_names))


def _rivals(model: str) -> tuple[str, ...]:
    """Return names of other models that begin like one of this model's (``NVIDIA H800 NVL``, ``NVIDIA H800``)."""
    own = _products(model)
    others = (name for other in catalog.names() if other != model for name in _products(other))
    return tuple(name for name in others if name not in own and any(name.startswith(f"{mine} ") for mine in own))


def _quoted(text: str) -> str:
    """Return a string literal of CEL; JSON's escapes are among CEL's."""
    return json.dumps(text, ensure_ascii=False)


# -- claims ------------------------------------------------------------------------------------------------------------


def _templates(held: dict[Replica, list[Piece]], names: Mapping[tuple[str, str], str], namespace: str) -> Iterator[Object]:
    alike: dict[tuple[str, tuple[tuple[tuple[str, str], int], ...]], int] = {}
    for (workload, _), pieces in held.items():
        key = (workload, tuple(sorted(_counted(pieces).items())))
        alike[key] = alike.get(key, 0) + 1
    shapes: dict[str, int] = {}
    for workload, _ in alike:
        shapes[workload] = shapes.get(workload, 0) + 1
    objects = Names()
    for (workload, counts), replicas in sorted(alike.items()):
        kinds = "-".join(f"{count}x{names[kind]}" for kind, count in counts)
        parts = (workload,) if shapes[workload] == 1 else (workload, kinds)
        requests = [_request(f"gpu-{number}", names[kind], count) for number, (kind, count) in enumerate(counts)]
        metadata = _metadata(objects.of(*parts), namespace, {"workload": workload, "replicas": str(replicas)})
        yield {
            "apiVersion": API,
            "kind": "ResourceClaimTemplate",
            "metadata": metadata,
            "spec": {"metadata": {"labels": dict(MANAGED)}, "spec": {"devices": {"requests": requests}}},
        }


def _counted(pieces: list[Piece]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for piece in pieces:
        counts[piece.kind] = counts.get(piece.kind, 0) + 1
    return counts


def _claims(held: dict[Replica, list[Piece]], names: Mapping[tuple[str, str], str], namespace: str) -> Iterator[Object]:
    objects = Names()
    for (workload, replica), pieces in held.items():
        requests = [
            _request(f"gpu-{number}", names[piece.kind], 1, _placement_expression(piece)) for number, piece in enumerate(pieces)
        ]
        where = ", ".join(f"{gpu_label(p.gpu.host, p.gpu.gpu)} {p.slot.profile}@{p.slot.start}" for p in pieces)
        metadata = _metadata(objects.of(workload, str(replica)), namespace, {"workload": workload, "replica": str(replica)})
        metadata["annotations"]["gpu-partitioner/placement"] = where
        if pieces[0].gpu.host is not None:
            metadata["annotations"]["gpu-partitioner/host"] = pieces[0].gpu.host
        yield {"apiVersion": API, "kind": "ResourceClaim", "metadata": metadata, "spec": {"devices": {"requests": requests}}}


def _placement_expression(piece: Piece) -> str | None:
    """Return the CEL expression that is true of the device at a placement, None where nothing is known to tell it by."""
    terms = []
    uuid = piece.gpu.uuid
    if uuid is not None:
        attribute = "uuid" if piece.gpu.mode == "whole" else "parentUUID"
        label = gpu_label(piece.gpu.host, piece.gpu.gpu)
        terms.append(f"{_DEVICE}.{attribute} == {_quoted(checked_uuid(uuid, label))}")
    if piece.gpu.mode == "mig":
        slices = f'device.capacity["{DRIVER}"]'
        profile = catalog.gpu(piece.gpu.model).geometry("mig").profile(piece.slot.profile)
        # The profile says how many slices there are, so the first and the last one say which.
        edges = dict.fromkeys((piece.slot.start, piece.slot.start + profile.extent - 1))
        terms += [f'"memorySlice{edge}" in {slices}' for edge in edges]
    return " && ".join(terms) or None


def _request(name: str, device_class: str, count: int, expression: str | None = None) -> Object:
    exactly: Object = {"deviceClassName": f"{device_class}.gpu-partitioner", "allocationMode": "ExactCount", "count": count}
    if expression is not None:
        exactly["selectors"] = [{"cel": {"expression": expression}}]
    return {"name": name, "exactly": exactly}


def _metadata(name: str, namespace: str, notes: Mapping[str, str]) -> Object:
    annotations = {f"gpu-partitioner/{key}": value for key, value in notes.items()}
    return {"name": name, "namespace": namespace, "labels": dict(MANAGED), "annotations": annotations}
