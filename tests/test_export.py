"""Exports read back: mig-parted files, nvidia-smi commands, CUDA_VISIBLE_DEVICES, files."""

from __future__ import annotations

import re
import stat
import subprocess
from dataclasses import replace

import exports
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import names

from partitioner import catalog, export, plan
from partitioner.changes.step import Place
from partitioner.errors import SpecError
from partitioner.export.commands import nvidia_smi
from partitioner.export.machines import plain
from partitioner.fleet import Fleet, Gpu, Host
from partitioner.layout import GpuLayout, Layout, Slot
from partitioner.workload import Workload

A100, A30 = "A100-80GB", "A30-24GB"


def layout_of(*gpus: GpuLayout) -> Layout:
    return Layout.of(gpus)


def cut(host: str | None, gpu: int, model: str, *slots: tuple[str, int, str | None], uuid: str | None = None) -> GpuLayout:
    held = [Slot(profile, start, who, None if who is None else 0) for profile, start, who in slots]
    return GpuLayout(host, gpu, model, "mig", tuple(held), uuid)


TWO = layout_of(
    cut("esx-01", 0, A100, ("3g.40gb", 4, "chat"), ("1g.10gb", 0, "embed")),
    GpuLayout("esx-01", 1, A100, "whole", (Slot("whole", 0, "train", 0),)),
    GpuLayout("esx-01", 2, A100, None),
    cut("esx-02", 0, A100, ("3g.40gb", 0, None), ("1g.10gb", 4, None)),
    GpuLayout("esx-02", 1, A100, "whole"),
)


# -- mig-parted --------------------------------------------------------------------------------------------------------


@given(exports.layouts())
def test_a_mig_parted_file_read_back_has_the_same_configurations(layout: Layout) -> None:
    text = export.mig_parted(layout)
    configs, chosen = export.from_mig_parted(text), export.mig_config_names(layout)
    assert set(configs.names) == set(chosen.values())
    if not len(layout):
        return
    fleet, called = exports.fleet_of(layout)
    back = configs.layout(fleet, {called[host]: name for host, name in chosen.items()})
    found = {(gpu.host, gpu.gpu): (gpu.mode, exports.configuration(gpu)) for gpu in back}
    wanted = {}
    for gpu in layout:
        if gpu.mode is not None:
            wanted[called[gpu.host], gpu.gpu] = gpu.mode, exports.configuration(gpu) if gpu.mode == "mig" else {}
    assert found == wanted


@given(exports.layouts())
def test_a_mig_parted_file_is_in_the_form_of_the_tool(layout: Layout) -> None:
    data = yaml.safe_load(export.mig_parted(layout))
    assert set(data) == {"version", "mig-configs"}
    assert data["version"] == "v1"
    for name, entries in data["mig-configs"].items():
        assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name)  # a node's label has to hold it
        assert entries
        for entry in entries:
            assert {"devices", "mig-enabled"} <= set(entry) <= {"devices", "mig-enabled", "mig-devices", "device-filter"}
            assert ("mig-devices" in entry) == entry["mig-enabled"]
            for profile, count in (entry.get("mig-devices") or {}).items():
                assert re.fullmatch(r"\d+g\.\d+gb([+-](me|me\.all|gfx))?", profile)
                assert count > 0


def test_hosts_with_the_same_need_share_a_configuration_whose_name_follows_its_content() -> None:
    names = export.mig_config_names(TWO)
    assert names["esx-01"] == names["esx-02"]
    assert len(export.from_mig_parted(export.mig_parted(TWO))) == 1
    other = layout_of(cut("esx-01", 0, A100, ("3g.40gb", 4, "chat"), ("1g.10gb", 0, "x"), ("1g.10gb", 1, "x")))
    assert export.mig_config_names(other)["esx-01"] != names["esx-01"]
    assert export.mig_config_names(TWO, host="esx-02") == {"esx-02": names["esx-02"]}


def test_filters_stand_where_models_differ_only() -> None:
    assert "device-filter" not in export.mig_parted(TWO)
    mixed = layout_of(cut("h", 0, A100, ("1g.10gb", 0, None)), cut("h", 1, "A100-40GB", ("1g.10gb", 0, None)))
    entries = next(iter(export.from_mig_parted(export.mig_parted(mixed)).configs.values()))
    assert [set(entry.device_filter) for entry in entries] == [
        {f"0x{device_id:04X}10DE" for device_id in catalog.gpu(model).pci_device_ids} for model in (A100, "A100-40GB")
    ]


def test_a_file_as_nvidia_ships_it() -> None:
    text = """
version: v1
mig-configs:
  all-disabled:
    - devices: all
      mig-enabled: false
  all-1g.10gb:
    # H100-80GB, A100-80GB
    - device-filter: ["0x233010DE", "0x20B210DE"]
      devices: all
      mig-enabled: true
      mig-devices:
        "1g.10gb": 7
    - device-filter: "0x20B010DE"
      devices: all
      mig-enabled: true
      mig-devices:
        "1g.10gb": 4
  custom-config:
    - devices: [0]
      mig-enabled: false
    - devices: [1]
      mig-enabled: true
      mig-devices: {"1g.9gb": 2, "2g.20gb": 1, "3g.39gb": 1}
"""
    configs = export.from_mig_parted(text)
    assert configs.names == ("all-disabled", "all-1g.10gb", "custom-config")
    fleet = Fleet((Host("a", (Gpu(A100), Gpu("A100-40GB"), Gpu("T4"))),))
    both = configs.layout(fleet, "all-1g.10gb")
    assert [(gpu.gpu, len(gpu.slots)) for gpu in both] == [(0, 7), (1, 4)]
    assert [gpu.mode for gpu in configs.layout(fleet, "all-disabled")] == ["whole"] * 3
    drifted = configs.layout(Fleet.of(A100, gpus_per_host=2), {"host-0": "custom-config"})
    assert exports.configuration(drifted.gpu(1)) == {"3g.40gb": 1, "2g.20gb": 1, "1g.10gb": 2}
    offered = configs.workloads(Fleet.of(A100, hosts=2, gpus_per_host=2), "custom-config")
    assert {(w.name, w.profile, w.count) for w in offered} == {
        ("1g.10gb", "1g.10gb", 4),
        ("2g.20gb", "2g.20gb", 2),
        ("3g.40gb", "3g.40gb", 2),
    }
    assert plan(list(offered), gpu=A100, gpus=2).complete


def test_a_path_is_read_as_a_file(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(export.mig_parted(TWO))
    assert export.from_mig_parted(file) == export.from_mig_parted(export.mig_parted(TWO))
    file.write_text("version: v1\nmig-configs:\n  a: 3\n")
    with pytest.raises(SpecError, match=r"config\.yaml:3"):
        export.from_mig_parted(file)


HEAD = "version: v1\nmig-configs:\n  a:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "1: a mapping with version and mig-configs is wanted, not list"),
        ("mig-configs: {}", "'version' is missing"),
        ("version: v2", "version is 'v2'; only v1 is known"),
        ("version: v1\nmig-config: {}", "2: mig-config: unknown field 'mig-config'; did you mean 'mig-configs'"),
        ("version: v1\nmig-configs:\n  a: []", "3: mig-configs.a: nothing is listed"),
        (HEAD + "  - devices: all\n    mig-enable: true", "5: mig-configs.a[0].mig-enable: unknown field"),
        (HEAD + "  - devices: some\n    mig-enabled: true", "4: mig-configs.a[0].devices: 'some' is neither all nor a list"),
        (HEAD + "  - devices: [-1]\n    mig-enabled: false", "indices of GPUs start at 0"),
        (HEAD + "  - devices: [true]\n    mig-enabled: false", "neither all nor a list"),
        (HEAD + "  - devices: all\n    mig-enabled: yes please", "5: mig-configs.a[0].mig-enabled: 'yes please' is neither true"),
        (HEAD + "  - devices: all\n    mig-enabled: true", "mig-devices is missing"),
        (HEAD + "  - devices: all\n    mig-enabled: false\n    mig-devices: {1g.5gb: 1}", "mig-enabled is false"),
        (HEAD + "  - devices: all\n    mig-enabled: true\n    mig-devices: {1g.5gb: 0}", "all counts are 0"),
        (HEAD + "  - devices: all\n    mig-enabled: true\n    mig-devices: {1g.5gb: -1}", "count from 0 to 256"),
        (HEAD + "  - devices: all\n    mig-enabled: true\n    mig-devices: [1g.5gb]", "not a mapping like"),
        (HEAD + "  - devices: all\n    device-filter: A100\n    mig-enabled: false", "'A100' is not a PCI device id"),
    ],
)
def test_what_mig_parted_would_refuse_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        export.from_mig_parted(text)
    assert said in str(caught.value)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        export.from_mig_parted(HEAD + "  - devices: some\n    mig-enabled: 1\n  b:\n  - {}")
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ("[{devices: [7], mig-enabled: false}]", "GPU 7 is named, but host-0 has GPUs 0 to 1"),
        ("[{devices: all, mig-enabled: true, mig-devices: {9g.90gb: 1}}]", "host-0/gpu0 (A100-80GB): unknown profile '9g.90gb'"),
        ("[{devices: all, mig-enabled: true, mig-devices: {4g.40gb: 2}}]", "2 x 4g.40gb does not fit on one GPU"),
        ("[{devices: all, mig-enabled: true, mig-devices: {1c.3g.40gb: 1}}]", "is a compute instance"),
        (
            "[{devices: all, mig-enabled: false}, {devices: [1], mig-enabled: true, mig-devices: {}}]",
            "something else of host-0/gpu1",
        ),
    ],
)
def test_a_configuration_that_does_not_suit_the_fleet_is_refused(entries: str, said: str) -> None:
    configs = export.from_mig_parted("version: v1\nmig-configs:\n  a: " + entries)
    with pytest.raises(SpecError) as caught:
        configs.layout(Fleet.of(A100, gpus_per_host=2))
    assert said in str(caught.value)
    assert "mig-parted configuration:3: mig-configs.a[" in str(caught.value)


def test_gpus_without_mig_are_passed_over_by_all_and_refused_by_index() -> None:
    fleet = Fleet((Host("a", (Gpu(A100), Gpu("T4"))),))
    entry = "mig-enabled: true, mig-devices: {1g.10gb: 1}"
    every = export.from_mig_parted(f"version: v1\nmig-configs:\n  a: [{{devices: all, {entry}}}]")
    assert [gpu.gpu for gpu in every.layout(fleet)] == [0]
    listed = export.from_mig_parted(f"version: v1\nmig-configs:\n  a: [{{devices: [1], {entry}}}]")
    with pytest.raises(SpecError, match=r"T4.*has no MIG"):
        listed.layout(fleet)


def test_the_configuration_and_the_host_have_to_exist() -> None:
    text = "{version: v1, mig-configs: {a: [{devices: all, mig-enabled: false}], b: [{devices: all, mig-enabled: false}]}}"
    configs, fleet = export.from_mig_parted(text), Fleet.of(A100)
    for choice, said in [
        (None, "name one of the configurations a, b"),
        ("c", "no configuration 'c'"),
        ({"x": "a"}, "'x' is not in"),
    ]:
        with pytest.raises(SpecError, match=said):
            configs.layout(fleet, choice)
    assert len(configs.layout(Fleet.of(A100, hosts=2), {"host-1": "a"})) == 8


# -- nvidia-smi --------------------------------------------------------------------------------------------------------


@given(exports.layouts(hosts=st.none() | names))
def test_commands_ask_for_exactly_the_planned_placements(layout: Layout) -> None:
    script = nvidia_smi(layout)
    one = len({gpu.host for gpu in layout}) == 1
    key = {(gpu.host, gpu.gpu): ("" if one else gpu.host or "", gpu.gpu) for gpu in layout}
    models = {key[gpu.host, gpu.gpu]: gpu.model for gpu in layout}
    wanted = {key[g.host, g.gpu]: {(s.profile, s.start) for s in g.slots} for g in layout if g.mode == "mig" and g.slots}
    assert exports.asked(script, models) == wanted


@settings(max_examples=40)
@given(exports.layouts())
def test_names_cannot_become_commands(layout: Layout) -> None:
    if {None, ""} <= set(layout.hosts) or any(host and "\0" in host for host in layout.hosts):
        return
    script = nvidia_smi(layout)
    subprocess.run(["/bin/sh", "-n"], input=script.encode(), check=True, capture_output=True)
    if len({gpu.host for gpu in layout}) == 1:
        for line in script.splitlines()[1:]:
            assert not line or line.startswith(("#", "set -eu", "nvidia-smi -i ", "nvidia-smi mig -i ", ":"))
    for line in export.mig_parted(layout).splitlines():
        assert re.match(r"( *#|version: v1$|mig-configs:|  plan-|    - |      |$)", line)


def test_commands_as_people_write_them() -> None:
    assert [line for line in nvidia_smi(TWO, host="esx-01").splitlines() if line.startswith("nvidia-smi")] == [
        "nvidia-smi -i 0 -mig 1",
        "nvidia-smi -i 1 -mig 0",
        "nvidia-smi mig -i 0 -cgi 19:0,9:4 -C",
    ]


def test_a_gpu_is_called_by_its_uuid_where_that_is_known() -> None:
    layout = layout_of(cut(None, 3, A30, ("1g.6gb", 1, None), uuid="GPU-5c89-1"))
    assert "nvidia-smi mig -i GPU-5c89-1 -cgi 14:1 -C" in nvidia_smi(layout)
    with pytest.raises(SpecError, match="not a UUID of the driver"):
        nvidia_smi(layout_of(cut(None, 3, A30, ("1g.6gb", 1, None), uuid="GPU-1; reboot")))


def test_profiles_without_a_known_id_are_asked_for_by_name() -> None:
    assert "-cgi 1g.16gb:0,1g.16gb+gfx:" in nvidia_smi(
        layout_of(cut(None, 0, "RTX-PRO-4500-32GB", ("1g.16gb", 0, None), ("1g.16gb+gfx", _second_start(), None)))
    )


def _second_start() -> int:
    return catalog.gpu("RTX-PRO-4500-32GB").geometry("mig").profile("1g.16gb+gfx").starts[1]


@pytest.mark.parametrize("host", ["esac", "a b", "a'b", '"; reboot; "', "$(reboot)", "*", "x\ny", "é", ""])
def test_a_script_for_several_hosts_takes_the_name_of_its_host(host: str, tmp_path) -> None:
    layout = layout_of(cut(host, 0, A30, ("1g.6gb", 0, None)), cut("other", 1, A30, ("1g.6gb", 0, None)))
    stub = tmp_path / "nvidia-smi"
    stub.write_text('#!/bin/sh\necho "$*"\n')
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    script = nvidia_smi(layout)

    def said(*arguments: str) -> tuple[int, str]:
        call = ["/bin/sh", "-c", script, "script", *arguments]
        done = subprocess.run(call, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert said(host) == (0, "-i 0 -mig 1\nmig -i 0 -cgi 14:0 -C\n")
    assert said("other") == (0, "-i 1 -mig 1\nmig -i 1 -cgi 14:0 -C\n")
    assert said() == (2, "")
    assert said("neither") == (2, "")


# -- CUDA_VISIBLE_DEVICES ----------------------------------------------------------------------------------------------


def test_each_replica_sees_its_devices() -> None:
    layout = layout_of(
        cut("h", 0, A30, ("1g.6gb", 0, "a"), ("1g.6gb", 1, "a"), ("2g.12gb", 2, "b/x")),
        replace(GpuLayout("h", 1, A30, "whole", (Slot("whole", 0, "c", 2),)), uuid="GPU-9"),
    )
    devices = {("h", 0, "1g.6gb", 0): "MIG-1", Place("h", 0, "1g.6gb", 1): "MIG-2", ("h", 0, "2g.12gb", 2): "MIG-3"}
    seen = export.cuda_visible_devices(layout, devices)
    assert dict(seen) == {("a", 0): "MIG-1,MIG-2", ("b/x", 0): "MIG-3", ("c", 2): "GPU-9"}
    assert seen.env("b/x", 0) == "# b/x/0\nCUDA_VISIBLE_DEVICES=MIG-3\n"
    assert dict(seen.files()) == {
        "a-0.env": "# a/0\nCUDA_VISIBLE_DEVICES=MIG-1,MIG-2\n",
        "b_x-0.env": "# b/x/0\nCUDA_VISIBLE_DEVICES=MIG-3\n",
        "c-2.env": "# c/2\nCUDA_VISIBLE_DEVICES=GPU-9\n",
    }


@given(exports.layouts())
def test_environment_files_hold_one_variable_whatever_names_are(layout: Layout) -> None:
    places = [(gpu.host, gpu.gpu, slot.profile, slot.start) for gpu in layout for slot in gpu.slots]
    devices = {place: f"MIG-{number}" for number, place in enumerate(places)}
    seen = export.cuda_visible_devices(layout, devices)
    held = {(a.workload, a.replica) for a in layout.assignments()}
    assert set(seen) == held
    assert sorted(uuid for value in seen.values() for uuid in value.split(",")) == sorted(
        devices[a.host, a.gpu, a.profile, a.start] for a in layout.assignments()
    )
    for content in seen.files().values():
        comment, line = content.splitlines()
        assert comment.startswith("# ")
        assert re.fullmatch(r"CUDA_VISIBLE_DEVICES=MIG-\d+(,MIG-\d+)*", line)
    assert len(seen.files()) == len(held)


def test_names_that_file_names_cannot_tell_apart_have_files_of_their_own() -> None:
    slots = (Slot("1g.6gb", 0, "a/b", 0), Slot("1g.6gb", 1, "a b", 0), Slot("1g.6gb", 2, "a_b", 0))
    seen = export.cuda_visible_devices(
        layout_of(GpuLayout(None, 0, A30, "mig", slots)), {(None, 0, "1g.6gb", start): f"MIG-{start}" for start in range(3)}
    )
    contents = {name: content.splitlines()[-1][-1] for name, content in seen.files().items()}
    assert contents == {"a_b-0.env": "0", "a_b-0_2.env": "1", "a_b-0_3.env": "2"}


def test_a_missing_or_wrong_uuid_says_where_uuids_come_from() -> None:
    layout = layout_of(cut("h", 0, A30, ("1g.6gb", 0, "a"), ("1g.6gb", 1, "b"), ("2g.12gb", 2, None)))
    with pytest.raises(SpecError, match=r"no UUID known of h/gpu0 1g\.6gb@0, h/gpu0 1g\.6gb@1; .*nvidia-smi -L"):
        export.cuda_visible_devices(layout)
    both = {("h", 0, "1g.6gb", 0): "MIG-1", ("h", 0, "1g.6gb", 1): "MIG-1"}
    with pytest.raises(SpecError, match=r"1g\.6gb@1 and h/gpu0 1g\.6gb@0 both have UUID MIG-1"):
        export.cuda_visible_devices(layout, both)
    with pytest.raises(SpecError, match="not a UUID of the driver"):
        export.cuda_visible_devices(layout, {**both, ("h", 0, "1g.6gb", 1): "MIG-1\nLD_PRELOAD=x"})
    with pytest.raises(SpecError, match="is not a placement"):
        export.cuda_visible_devices(layout, {("h", 0): "MIG-1"})  # type: ignore[dict-item]


# -- what all exports share --------------------------------------------------------------------------------------------

EXPORTS = (export.mig_parted, export.nvidia_smi, export.systemd, export.kubernetes, export.cuda_visible_devices)


@pytest.mark.parametrize("function", EXPORTS)
def test_vgpu_modes_are_refused_by_name(function) -> None:
    shared = layout_of(
        *(GpuLayout("h", number, "T4", "vgpu-equal-4") for number in range(10)),
        cut("ok", 0, A30, ("1g.6gb", 0, None)),
    )
    with pytest.raises(SpecError, match=r"h/gpu0 \(T4, vgpu-equal-4\).* and 2 more: time-sliced vGPUs"):
        function(shared)
    assert function(shared, host="ok") is not None


@pytest.mark.parametrize("function", EXPORTS)
def test_hosts_have_to_be_in_the_layout(function) -> None:
    with pytest.raises(SpecError, match="host 'esx-03' is not in the layout; did you mean"):
        function(TWO, host="esx-03")
    with pytest.raises(SpecError, match="the layout names no hosts"):
        function(layout_of(cut(None, 0, A30)), host="h")
    with pytest.raises(SpecError, match="takes a Plan or a Layout, not str"):
        function("plan")


def test_a_plan_is_exported_like_its_layout() -> None:
    made = plan([Workload("chat", profile="3g.40gb", count=3)], gpu=A100)
    assert export.mig_parted(made) == export.mig_parted(made.layout)
    assert export.nvidia_smi(made) == export.nvidia_smi(made.layout)


def test_files_are_written_whole_into_a_folder(tmp_path) -> None:
    files = export.Files({"a.env": "X=1\n", "h/b.sh": "true\n"})
    assert [path.read_text() for path in files.write(tmp_path / "new")] == ["X=1\n", "true\n"]
    assert (tmp_path / "new/h/b.sh").read_text() == "true\n"
    assert str(files) == "# ==> a.env <==\nX=1\n\n# ==> h/b.sh <==\ntrue\n"
    assert len({files, export.Files(dict(files))}) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="cannot be made"):
        files.write(tmp_path / "file")
    for name in ("../x", "/etc/x", "a/b/c", "", ".hidden", "a\nb"):
        with pytest.raises(SpecError, match="file name"):
            export.Files({name: ""})


def test_plain_text_has_one_line() -> None:
    assert plain("a\nb\r\x00\x85\u2028\u202eé") == r"a\x0ab\x0d\x00\x85\u2028\u202eé"
