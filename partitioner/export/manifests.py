"""Writes what Kubernetes needs for a plan: MIG manager's configuration, labels of nodes, device classes and claims.

The MIG part is for NVIDIA's gpu-operator ("GPU Operator with MIG", custom MIG configuration): its MIG manager applies the
configuration of a ConfigMap that a node's label ``nvidia.com/mig.config`` names.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from partitioner.documents import write
from partitioner.errors import SpecError
from partitioner.export.claims import MANAGED, Claims, Object, dra_objects
from partitioner.export.counts import Selection, render, select
from partitioner.export.machines import Machine, Source, machines, plain
from partitioner.export.names import checked_label, is_subdomain

LABEL = "nvidia.com/mig.config"
CONFIG_MAP = "gpu-partitioner-mig-config"
_LARGEST = 1_000_000  # bytes; Kubernetes takes 1 MiB for a ConfigMap with its metadata
_DISABLED = {"all-disabled": ("  - devices: all", "    mig-enabled: false")}  # gpu-operator's default configuration


@dataclass(frozen=True, eq=False)
class Manifests:
    """Objects of Kubernetes, and labels for nodes that exist.

    Labels stand apart, as commands in the comments of the text: a Node in a manifest would be made where there is none.

    Parameters
    ----------
    objects : the objects as plain data.
    node_labels : node name to labels.
    comments : lines that stand above the objects.
    """

    objects: tuple[Object, ...]
    node_labels: Mapping[str, Mapping[str, str]]
    comments: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.objects)

    def __repr__(self) -> str:
        return f"<Manifests of {len(self.objects)} objects, labels for {len(self.node_labels)} nodes>"

    def __str__(self) -> str:
        """All objects as YAML, one document each, below the comments."""
        heading = "\n".join(f"# {line}".rstrip() for line in self.comments)
        texts = [yaml.dump(entry, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000) for entry in self.objects]
        return heading + "\n" + "".join(f"---\n{text}" for text in texts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the text to a file, as a whole or not at all.

        Raises
        ------
        SpecError
            The file cannot be written.
        """
        write(path, str(self))


_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, ten times faster, where PyYAML was built with it


class _Dumper(_Base):  # type: ignore[misc]
    """Writes texts of several lines as blocks, as people do, and repeats instead of using aliases."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _represent_text(dumper: Any, text: str) -> yaml.ScalarNode:
    style = "|" if text.count("\n") > 1 else None
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


_Dumper.add_representer(str, _represent_text)


def kubernetes(
    source: Source,
    *,
    host: str | None = None,
    nodes: Mapping[str, str] | None = None,
    namespace: str = "default",
    operator_namespace: str = "gpu-operator",
    claims: Claims = "template",
) -> Manifests:
    """Return what Kubernetes needs for a plan.

    For nodes whose instances are made by gpu-operator's MIG manager: a ConfigMap with the configurations, and a label for
    each node. For NVIDIA's DRA driver: a DeviceClass for each kind of device that replicas hold, and the claims. What the
    plan says of nodes is not in claims, because a claim cannot ask for a node: use a node selector in the pod.

    Parameters
    ----------
    source : a `Plan`, a `Layout`, or anything with a ``layout``.
    host : the only host wanted; None for all.
    nodes : host name to node name, where they differ.
    namespace : of the claims.
    operator_namespace : of the ConfigMap.
    claims : ``template``: a ResourceClaimTemplate for the replicas of a workload that hold the same kinds of devices, for
        Deployments. ``replica``: a ResourceClaim for each replica that asks for its very placement; for instances made
        before the DRA driver starts (not with its feature gate DynamicMIG, which publishes no placements).

    Raises
    ------
    SpecError
        The host is not in the layout, a GPU is in a vGPU mode, or a name is not one that Kubernetes takes.
    """
    if claims not in ("template", "replica"):
        raise SpecError(f"claims is {claims!r}; it is 'template' or 'replica'")
    checked_label(namespace, "namespace")
    checked_label(operator_namespace, "operator_namespace")
    every = machines(source, host)
    node_of = _nodes(every, nodes or {})
    selection = select(every)
    text = render(every, selection, extra=_DISABLED)
    if len(text.encode()) > _LARGEST:
        raise SpecError(
            f"the ConfigMap would have {len(text.encode()):,} bytes; Kubernetes takes 1 MiB. Export some hosts at a time"
        )
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": operator_namespace, "labels": dict(MANAGED)},
        "data": {"config.yaml": text},
    }
    objects = (config_map, *dra_objects(every, namespace=namespace, claims=claims))
    labels = {node_of[name]: {LABEL: config} for name, config in selection.of_host.items() if name is not None}
    return Manifests(objects, labels, tuple(_comments(every, selection, labels)))


def _nodes(every: tuple[Machine, ...], given: Mapping[str, str]) -> dict[str, str]:
    """Return the node of each host."""
    found = {machine.host: given.get(machine.host, machine.host) for machine in every if machine.host is not None}
    wrong = [name for name, node in found.items() if not is_subdomain(node)]
    if wrong:
        raise SpecError(
            f"host {wrong[0]!r}: {found[wrong[0]]!r} cannot be the name of a Kubernetes node (small letters, digits, - and .);"
            f" give nodes={{{wrong[0]!r}: 'its-node'}}"
        )
    host_of: dict[str, str] = {}
    for name, node in found.items():
        if host_of.setdefault(node, name) != name:
            raise SpecError(f"hosts {host_of[node]!r} and {name!r} are both node {node!r}; each needs a node of its own")
    return found


def mig_strategy(every: tuple[Machine, ...]) -> str:
    """Return the device plugin's MIG strategy that a layout needs.

    ``single`` where each host has MIG on all its GPUs and one profile only (or MIG on none), else ``mixed``.
    """
    for machine in every:
        modes = {gpu.mode for gpu in machine.gpus if gpu.mode is not None}
        shapes = {slot.profile for gpu in machine.gpus if gpu.mode == "mig" for slot in gpu.slots}
        if len(modes) > 1 or len(shapes) > 1:
            return "mixed"
    return "single"


def _comments(every: tuple[Machine, ...], selection: Selection, labels: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the lines above the objects: what to do with them, in order."""
    strategy = mig_strategy(every)
    policy = {"spec": {"mig": {"strategy": strategy}, "migManager": {"config": {"name": CONFIG_MAP}}}}
    lines = [
        "Written by gpu-partitioner.",
        "",
        f"MIG by gpu-operator: apply this file, point MIG manager to {CONFIG_MAP}, label the nodes. MIG manager empties a",
        "GPU before it cuts it anew, and the driver chooses the placements. Strategy for the device plugin: " + strategy,
        "(mixed: pods ask for nvidia.com/mig-3g.40gb; single: for nvidia.com/gpu).",
        f"  kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge -p {shlex.quote(json.dumps(policy))}",
    ]
    for node, wanted in labels.items():
        pairs = " ".join(f"{key}={value}" for key, value in wanted.items())
        lines.append(f"  kubectl label node {node} {pairs} --overwrite")
    if None in selection.of_host:
        lines.append(f"  (a host without a name takes {LABEL}={selection.of_host[None]})")
    lines += [
        "",
        f"Dynamic resource allocation ({'resource.k8s.io/v1'}, Kubernetes 1.34 and later, NVIDIA's DRA driver): a pod names",
        "its claim, or the template, under spec.resourceClaims. Without that driver, leave out all objects but the ConfigMap.",
    ]
    return [plain(line) for line in lines]
