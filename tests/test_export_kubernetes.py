"""Kubernetes objects of a plan: against the published schemas, and read back to what the plan says."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from typing import Any

import exports
import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings

from partitioner import catalog, export, plan
from partitioner.errors import SpecError
from partitioner.export.claims import device_expression, profile_names
from partitioner.export.names import Names, dns_label
from partitioner.fleet import Fleet
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.workload import Workload

A100, A30 = "A100-80GB", "A30-24GB"
VERSION = "1.35"  # the newest published schemas that the lowest supported release of kubernetes-validate carries
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def nodes_of(layout: Layout) -> dict[str, str]:
    return {host: f"node-{number}" for number, host in enumerate(layout.hosts) if host is not None}


def written(manifests: export.Manifests) -> list[dict[str, Any]]:
    """The objects of the text, which are those of the value."""
    found = list(yaml.safe_load_all(str(manifests)))
    assert found == list(manifests.objects)
    return found


def check_form(entry: dict[str, Any]) -> None:
    kubernetes_validate.validate(entry, VERSION, strict=True)
    metadata = entry["metadata"]
    assert SUBDOMAIN.fullmatch(metadata["name"])
    assert len(metadata["name"]) <= 253
    for key, value in metadata.get("labels", {}).items():
        assert QUALIFIED.fullmatch(key)
        assert VALUE.fullmatch(value)
    for key in metadata.get("annotations", {}):
        assert QUALIFIED.fullmatch(key)


def requests_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    spec = entry["spec"]["spec"] if entry["kind"] == "ResourceClaimTemplate" else entry["spec"]
    found = spec["devices"]["requests"]
    assert 0 < len(found) <= 32  # the API server's limit
    assert all(LABEL.fullmatch(request["name"]) for request in found)
    assert len({request["name"] for request in found}) == len(found)
    return list(found)


def note(entry: dict[str, Any], key: str) -> str:
    return str(entry["metadata"]["annotations"][f"gpu-partitioner/{key}"])


def held(layout: Layout) -> Counter[tuple[str, str, str]]:
    """(workload, model, profile) to how many pieces its replicas hold."""
    return Counter((slot.workload, gpu.model, slot.profile) for gpu in layout for slot in gpu.slots if slot.workload is not None)


def claimed(objects: list[dict[str, Any]]) -> Counter[tuple[str, str, str]]:
    classes = {entry["metadata"]["name"]: entry for entry in objects if entry["kind"] == "DeviceClass"}
    found: Counter[tuple[str, str, str]] = Counter()
    for entry in objects:
        if entry["kind"] in ("ResourceClaim", "ResourceClaimTemplate"):
            replicas = int(note(entry, "replicas")) if entry["kind"] == "ResourceClaimTemplate" else 1
            for request in requests_of(entry):
                known = classes[request["exactly"]["deviceClassName"]]
                kind = note(entry, "workload"), note(known, "model"), note(known, "profile")
                found[kind] += replicas * request["exactly"]["count"]
    return found


@settings(max_examples=40)
@given(exports.layouts())
def test_objects_are_valid_and_read_back_to_the_counts_of_the_plan(layout: Layout) -> None:
    for kind in ("template", "replica"):
        manifests = export.kubernetes(layout, nodes=nodes_of(layout), claims=kind)
        objects = written(manifests)
        for entry in objects:
            check_form(entry)
        names = [(entry["kind"], entry["metadata"]["name"]) for entry in objects]
        assert len(set(names)) == len(names)
        assert claimed(objects) == held(layout)


@settings(max_examples=60)
@given(exports.layouts())
def test_the_config_map_gives_each_labelled_node_its_configuration(layout: Layout) -> None:
    nodes = nodes_of(layout)
    manifests = export.kubernetes(layout, nodes=nodes)
    config_map = manifests.objects[0]
    assert config_map["kind"] == "ConfigMap"
    configs = export.from_mig_parted(config_map["data"]["config.yaml"])
    assert configs.names[0] == "all-disabled"
    chosen = export.mig_config_names(layout)
    assert manifests.node_labels == {
        nodes[host]: {"nvidia.com/mig.config": name} for host, name in chosen.items() if host is not None
    }
    for host, name in chosen.items():
        plain = export.from_mig_parted(export.mig_parted(layout)).configs[name]
        assert configs.configs[name] == plain, host


PLANNED = Layout.of(
    [
        GpuLayout(
            "n1", 0, A100, "mig", (Slot("3g.40gb", 4, "chat", 0), Slot("1g.10gb", 0, "Ünï x", 0), Slot("1g.10gb", 1)), "GPU-1"
        ),
        GpuLayout("n1", 1, A100, "whole", (Slot("whole", 0, "train", 0),), "GPU-2"),
        GpuLayout(
            "n2", 0, A100, "mig", (Slot("3g.40gb", 0, "chat", 1), Slot("1g.10gb", 4, "two", 0), Slot("1g.10gb", 6, "two", 0))
        ),
        GpuLayout("n2", 1, A100, None),
    ]
)


def test_a_template_serves_all_replicas_that_hold_the_same() -> None:
    objects = written(export.kubernetes(PLANNED))
    templates = {note(e, "workload"): e for e in objects if e["kind"] == "ResourceClaimTemplate"}
    assert {name: note(e, "replicas") for name, e in templates.items()} == {"chat": "2", "Ünï x": "1", "two": "1", "train": "1"}
    assert templates["chat"]["metadata"]["name"] == "chat"
    assert templates["Ünï x"]["metadata"]["name"].startswith("uni-x-")
    (request,) = requests_of(templates["two"])
    assert request["exactly"] == {
        "deviceClassName": "a100-80gb-1g-10gb.gpu-partitioner",
        "allocationMode": "ExactCount",
        "count": 2,
    }


def test_replicas_of_one_workload_on_different_profiles_have_templates_of_their_own() -> None:
    layout = Layout.of([GpuLayout("n", 0, A30, "mig", (Slot("1g.6gb", 0, "s", 0), Slot("2g.12gb", 2, "s", 1)))])
    templates = [e for e in written(export.kubernetes(layout)) if e["kind"] == "ResourceClaimTemplate"]
    assert len({e["metadata"]["name"] for e in templates}) == 2
    assert {requests_of(e)[0]["exactly"]["deviceClassName"].split(".")[0] for e in templates} == {
        "a30-24gb-1g-6gb",
        "a30-24gb-2g-12gb",
    }


def test_a_claim_for_each_replica_asks_for_its_very_placement() -> None:
    objects = written(export.kubernetes(PLANNED, claims="replica", namespace="team-a"))
    claims = {(note(e, "workload"), note(e, "replica")): e for e in objects if e["kind"] == "ResourceClaim"}
    assert {e["metadata"]["namespace"] for e in claims.values()} == {"team-a"}

    def asked(workload: str, replica: str) -> list[str]:
        found = requests_of(claims[workload, replica])
        return [s["cel"]["expression"] for request in found for s in request["exactly"].get("selectors", [])]

    device, slices = 'device.attributes["gpu.nvidia.com"]', 'device.capacity["gpu.nvidia.com"]'
    assert asked("chat", "0") == [f'{device}.parentUUID == "GPU-1" && "memorySlice4" in {slices} && "memorySlice7" in {slices}']
    assert asked("chat", "1") == [f'"memorySlice0" in {slices} && "memorySlice3" in {slices}']
    assert asked("two", "0") == [f'"memorySlice4" in {slices}', f'"memorySlice6" in {slices}']
    assert asked("train", "0") == [f'{device}.uuid == "GPU-2"']
    assert (note(claims["chat", "1"], "host"), note(claims["chat", "1"], "placement")) == ("n2", "n2/gpu0 3g.40gb@0")


def test_first_and_last_memory_slice_tell_placements_of_a_profile_apart() -> None:
    for name in exports.MIG_MODELS:
        for profile in catalog.gpu(name).geometry("mig").profiles:
            edges = {(start, start + profile.extent - 1) for start in profile.starts}
            covered = {
                (first, last): {s for s in profile.starts if {first, last} <= set(range(s, s + profile.extent))}
                for first, last in edges
            }
            assert all(len(starts) == 1 for starts in covered.values())


def test_device_classes_select_by_what_nvidias_driver_publishes() -> None:
    assert device_expression(A30, "2g.12gb+me") == (
        'device.driver == "gpu.nvidia.com" && device.attributes["gpu.nvidia.com"].type == "mig"'
        ' && device.attributes["gpu.nvidia.com"].profile in ["2g.12gb+me", "2g.11gb+me"]'
        ' && device.attributes["gpu.nvidia.com"].productName.matches("^(NVIDIA A30|NVIDIA A30X)( .*)?$")'
    )
    assert device_expression("T4", "whole").startswith(
        'device.driver == "gpu.nvidia.com" && device.attributes["gpu.nvidia.com"].type == "gpu" && '
    )


def test_profiles_are_known_by_every_name_of_the_drivers() -> None:
    profile = catalog.gpu(A100).geometry("mig").profile
    assert profile_names(A100, profile("7g.80gb"))[0] == "7g.80gb"
    assert {"7g.79gb", "7g.80gb"} <= set(profile_names(A100, profile("7g.80gb")))
    assert {"3g.39gb", "3g.40gb"} <= set(profile_names(A100, profile("3g.40gb")))
    for model in exports.MIG_MODELS:
        names = [name for p in catalog.gpu(model).geometry("mig").profiles for name in profile_names(model, p)]
        assert len(names) == len(set(names))  # no name means two profiles of one GPU
        assert all(re.fullmatch(r"\d+g\.\d+gb([+-](me|me\.all|gfx))?", name) for name in names)


def test_products_are_matched_as_drivers_print_them() -> None:
    assert matching("NVIDIA A100-SXM4-80GB") == {A100}
    assert matching("NVIDIA A100-SXM4-40GB") == {"A100-40GB"}
    assert matching("NVIDIA B300 SXM6 AC") == {"B300-269GB"}
    assert matching("NVIDIA GH200 480GB") == {"H100-96GB"}
    assert matching("NVIDIA L40") == {"L40"}
    assert matching("NVIDIA H800 NVL") == {"H100-94GB"}
    for model in catalog.names():
        for product in catalog.gpu(model).record.product_names:
            assert matching(product.split(" (")[0]) == {model}


def matching(product: str) -> set[str]:
    """GPU models whose class for whole GPUs selects a product."""
    found = set()
    for model in catalog.names():
        tests = re.findall(
            r'(!?)device\.attributes\["gpu\.nvidia\.com"\]\.productName\.matches\(("[^"]*")\)', device_expression(model, "whole")
        )
        if all(bool(re.search(json.loads(pattern), product)) != bool(negated) for negated, pattern in tests):
            found.add(model)
    return found


def test_comments_say_what_to_do_and_cannot_be_left() -> None:
    text = str(export.kubernetes(PLANNED))
    chosen = export.mig_config_names(PLANNED)
    assert f"#   kubectl label node n1 nvidia.com/mig.config={chosen['n1']} --overwrite\n" in text
    patch = next(line for line in text.splitlines() if "kubectl patch" in line)
    policy = yaml.safe_load(shlex.split(patch)[-1])
    assert policy == {"spec": {"mig": {"strategy": "mixed"}, "migManager": {"config": {"name": "gpu-partitioner-mig-config"}}}}
    for line in text.split("---\n", maxsplit=1)[0].splitlines():
        assert line.startswith("#")


@pytest.mark.parametrize(
    ("gpus", "strategy"),
    [
        ([("mig", ("1g.6gb", "1g.6gb")), ("mig", ("1g.6gb",))], "single"),
        ([("mig", ("1g.6gb", "2g.12gb"))], "mixed"),
        ([("mig", ("1g.6gb",)), ("whole", ())], "mixed"),
        ([("whole", ()), ("whole", ())], "single"),
    ],
)
def test_the_strategy_is_single_where_all_devices_of_a_node_are_alike(gpus, strategy: str) -> None:
    starts = {"1g.6gb": (0, 1), "2g.12gb": (2,)}
    layout = Layout.of(
        GpuLayout("n", index, A30, mode, tuple(Slot(p, starts[p][profiles[:n].count(p)]) for n, p in enumerate(profiles)))
        for index, (mode, profiles) in enumerate(gpus)
    )
    assert f'"strategy": "{strategy}"' in str(export.kubernetes(layout))


def test_a_plan_of_services_and_replicas_over_several_gpus() -> None:
    made = plan(
        [Workload("train", profile="whole", count=2, gpus_per_replica=2), Workload("chat", profile="3g.40gb", count=3)],
        fleet=Fleet.of(A100, hosts=2, gpus_per_host=4),
    )
    objects = written(export.kubernetes(made))
    template = next(e for e in objects if e["kind"] == "ResourceClaimTemplate" and note(e, "workload") == "train")
    assert (note(template, "replicas"), requests_of(template)[0]["exactly"]["count"]) == ("2", 2)
    assert claimed(objects) == held(made.layout)


def test_hosts_that_cannot_be_nodes_are_refused() -> None:
    layout = Layout.of([GpuLayout("ESX_01", 0, A30, "whole"), GpuLayout("b", 0, A30, "whole")])
    with pytest.raises(SpecError, match=r"'ESX_01' cannot be the name of a Kubernetes node.*give nodes=\{'ESX_01': 'its-node'\}"):
        export.kubernetes(layout)
    with pytest.raises(SpecError, match="are both node 'b'"):
        export.kubernetes(layout, nodes={"ESX_01": "b"})
    labels = export.kubernetes(layout, nodes={"ESX_01": "esx-01.lab"}).node_labels
    assert set(labels) == {"esx-01.lab", "b"}


@pytest.mark.parametrize(
    "options", [{"namespace": "Team A"}, {"operator_namespace": "a/b"}, {"claims": "both"}, {"namespace": "x" * 64}]
)
def test_names_that_kubernetes_does_not_take_are_refused(options) -> None:
    with pytest.raises(SpecError, match=r"not a name of Kubernetes|'template' or 'replica'"):
        export.kubernetes(PLANNED, **options)


def test_a_config_map_that_is_too_large_is_refused() -> None:
    gpus = (
        GpuLayout(f"n{number}", number % 7 + index, A30, "mig", (Slot("1g.6gb", number % 4, "w" * 100, number),))
        for number in range(2500)
        for index in (0, number + 7)
    )
    with pytest.raises(SpecError, match="Kubernetes takes 1 MiB"):
        export.kubernetes(Layout.of(gpus))


def test_names_are_labels_and_never_shared(tmp_path) -> None:
    texts = ["chat", "Chat", "chat-", "-chat", "é", "e", "日本", "x" * 300, "a.b", "a_b", "a/b", "a\nb", "", "0"]
    names = Names()
    made = [names.of(text) for text in texts]
    assert all(LABEL.fullmatch(name) for name in made)
    assert len(set(made)) == len(texts)
    assert [names.of(text) for text in texts] == made
    assert made[0] == "chat"
    crafted = dns_label("Chat")  # somebody's workload is called what another one's name becomes
    assert names.of(crafted) not in made
    path = tmp_path / "all.yaml"
    export.kubernetes(PLANNED).save(path)
    assert path.read_text() == str(export.kubernetes(PLANNED))
