"""The catalogue: what stands in its files, every look-up, and users' own files."""

import re
from itertools import pairwise

import independent
import pytest

from partitioner import catalog
from partitioner.catalog import driver_name, gpu
from partitioner.catalog.naming import fold, parse_pci_device_id
from partitioner.errors import SpecError

MODELS = [gpu(name) for name in catalog.names()]
MIG = [model for model in MODELS if model.record.mig]


# -- contents ----------------------------------------------------------------------------------------------------------


def test_the_catalogue_holds_what_was_collected():
    assert len(MODELS) == 44
    assert len(MIG) == 20
    assert sum(len(model.record.mig.profiles) for model in MIG) == 136
    assert sum(len(model.record.boards) for model in MODELS) == 52
    assert sum(len(board.types) for model in MODELS for board in model.record.boards) == 934
    assert set(catalog.names()) == set(independent.records())


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_number_has_a_source_with_a_date(model):
    record = model.record
    cited = set(record.mig.sources) if record.mig else set()
    for profile in record.mig.profiles if record.mig else ():
        assert profile.source, profile.name
        cited.update(profile.source.values())
    for board in record.boards:
        for vgpu_type in board.types:
            assert vgpu_type.source or board.source, vgpu_type.name
            cited.update({**board.source, **vgpu_type.source}.values())
    assert cited <= set(record.sources)
    assert all(source.title and source.as_of.year >= 2024 for source in record.sources.values())


@pytest.mark.parametrize("model", MIG, ids=str)
def test_names_follow_from_the_memory_that_was_read(model):
    for profile in model.record.mig.profiles:
        if "memory_mib" not in profile.inferred:
            assert profile.name == driver_name(profile.compute_slices, profile.memory_mib, model.memory_mib, profile.attributes)


@pytest.mark.parametrize("model", MIG, ids=str)
def test_profiles_stay_within_their_gpu(model):
    mig = model.record.mig
    for profile in mig.profiles:
        share = profile.extent / mig.memory_slices
        assert profile.compute_slices <= mig.compute_slices
        assert profile.memory_mib <= model.memory_mib * share
        assert profile.multiprocessors is None or profile.multiprocessors <= (model.profile("whole").multiprocessors or 0)
        assert sum(ci.default for ci in profile.compute_instances) == 1
        profile_inside = model.geometry("mig").profile(profile.name).compute_geometry()
        assert profile_inside.is_legal([(profile.name, 0)])


@pytest.mark.parametrize("model", MIG, ids=str)
def test_ids_of_profiles_are_unique_on_one_gpu(model):
    ids = [profile.gi_profile_id for profile in model.record.mig.profiles if profile.gi_profile_id is not None]
    assert len(ids) == len(set(ids))
    for pci_device_id in model.record.pci_device_ids:
        for profile in model.geometry("mig").profiles:
            if profile.gi_profile_id is not None:
                assert catalog.profile_by_id(pci_device_id, profile.gi_profile_id) == (model, profile)


def test_mixed_sizes_exist_from_ampere_on_and_where_ids_are_known():
    mixed = {model.name for model in MODELS if "vgpu-mixed" in model.modes}
    assert mixed >= {"A10", "A40", "A100-80GB", "H100-80GB", "L4", "L40S"}
    older = {model.name for model in MODELS if model.record.architecture.split()[0] in ("Turing", "Volta")}
    assert older >= {"T4", "V100", "RTX8000P"}
    assert not mixed & older
    assert not [name for name in mixed if gpu(name).record.memory_gib >= 96]


def test_one_vgpu_sits_on_a_gpu_instance_up_to_hopper():
    shared = {
        model.name
        for model in MODELS
        for board in model.record.boards
        for vgpu_type in board.types
        if vgpu_type.vgpus_per_gpu_instance > 1
    }
    assert shared
    assert all("Blackwell" in gpu(name).record.architecture for name in shared)


def test_the_disputed_maximum_of_h100_16c_is_5():
    assert gpu("H100-80GB").geometry("vgpu-equal-16").profile("H100-16C").max_count == 5


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_frame_buffers_never_exceed_the_gpu(model):
    for geometry in model.geometries:
        if geometry.mode.startswith("vgpu-equal-"):
            for profile in geometry.profiles:
                # A region of GB200 and H100 NVL types is named above the nominal memory; 2% is the widest seen.
                assert profile.max_count * profile.memory_mib <= model.memory_mib * 1.02


# -- GPUs by name ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_product_name_and_own_name_is_found(model):
    for spelling in (model.name, model.name.lower(), f" {model.name} ", *model.record.product_names):
        assert gpu(spelling) is model
    assert gpu(model) is model
    assert str(model) == model.name


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_alias_and_board_is_found_or_named_ambiguous(model):
    for spelling in (*model.record.aliases, *(board.product for board in model.record.boards)):
        assert_found_or_ambiguous(spelling, model)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_pci_device_id_is_found_in_every_form(model):
    for text in model.record.pci_device_ids:
        for spelling in forms(int(text, 16)):
            assert_found_or_ambiguous(spelling, model)


def forms(number):
    """The ways in which a PCI device id is written."""
    return (f"0x{number:04X}", f"0x{number:04x}", number, f"0x{number:04X}10DE", f"10DE:{number:04X}", number << 16 | 0x10DE)


# Two GPUs share a device id, and NVIDIA's vGPU types call the A100-SXM4-40GB A100X while A100X is a board of 80 GB.
AMBIGUOUS = {"A100X", *forms(0x25B6), *forms(0x1E78)}


def assert_found_or_ambiguous(spelling, model):
    if spelling in AMBIGUOUS:
        with pytest.raises(SpecError, match=rf"is ambiguous; name one of .*{model.name}"):
            gpu(spelling)
    else:
        assert gpu(spelling) is model


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("A100D", "A100-80GB"),
        ("NVIDIA A100X", "A100-80GB"),
        ("Tesla T4", "T4"),
        ("tesla t4", "T4"),
        ("NVIDIA_H100_80GB_HBM3", "H100-80GB"),
        ("Nvidia A100 80GB PCIe", "A100-80GB"),
        ("A30", "A30-24GB"),
        ("0x20B2", "A100-80GB"),
        ("0x20b210de", "A100-80GB"),
        (0x20B2, "A100-80GB"),
        (0x20B210DE, "A100-80GB"),
        ("10de:1eb8", "T4"),
    ],
)
def test_spellings_in_use(spelling, name):
    assert gpu(spelling).name == name


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("A100-90GB", "unknown GPU 'A100-90GB'; did you mean 'A100-80GB'"),
        ("Tesla T5", "unknown GPU 'Tesla T5'; did you mean 'Tesla T4'"),
        ("A100", "GPU 'A100' is ambiguous; name one of A100-40GB, A100-80GB"),
        ("0x25B6", "PCI device id 0x25B6 is ambiguous; name one of A16, A2"),
        (0x1E78, "PCI device id 0x1E78 is ambiguous; name one of RTX6000P, RTX8000P"),
        ("0xFFFF", "PCI device id 0xFFFF is not in the catalogue; add it with your own TOML file"),
        ("", "unknown GPU ''"),
        ("   ", "unknown GPU '   '"),
        ("NVIDIA", "unknown GPU 'NVIDIA'"),
        ("quantum chip", "unknown GPU 'quantum chip'; `partitioner catalog list` names all"),
        (0, "GPU 0: not a PCI device id; write e.g. 0x20B2"),
        (-5, "GPU -5: not a PCI device id"),
        (None, "GPU None is not a name or a PCI device id"),
        (True, "GPU True is not a name or a PCI device id"),
        (1.5, "GPU 1.5 is not a name or a PCI device id"),
        (["T4"], r"GPU ['T4'] is not a name"),
    ],
)
def test_unknown_gpus_are_refused_with_what_would_be_right(spelling, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        gpu(spelling)


def test_a_name_that_is_no_pci_device_id():
    assert [parse_pci_device_id(text) for text in ("T4", "0x20B", "0x20B2FFFF", "20B2", "0xZZZZ")] == [None] * 5
    assert parse_pci_device_id(2**70) is None


# -- profiles by name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_vgpu_type_is_a_profile_or_refused_with_the_reason(model):
    for board in model.record.boards:
        for vgpu_type in board.types:
            for spelling in filter(None, (vgpu_type.name, vgpu_type.esxi_name, f"NVIDIA {vgpu_type.name}")):
                if vgpu_type.gi_profile and vgpu_type.vgpus_per_gpu_instance > 1:
                    with pytest.raises(SpecError, match="time-slices inside a GPU instance"):
                        model.profile(spelling)
                elif vgpu_type.gi_profile:
                    assert model.find(spelling) == model.find(vgpu_type.gi_profile), spelling
                    assert model.find(spelling)[0][0] == "mig"
                else:
                    assert_time_sliced(model, spelling, vgpu_type)


def assert_time_sliced(model, spelling, vgpu_type):
    found = dict(model.find(spelling))
    modes = [mode for mode in found if mode.startswith("vgpu-equal-")]
    assert len(modes) == 1, spelling
    assert set(found) <= {*modes, "vgpu-mixed"}
    assert found[modes[0]].memory_mib == vgpu_type.frame_buffer_mib
    assert found[modes[0]].max_count == vgpu_type.max_per_gpu


@pytest.mark.parametrize("model", MIG, ids=str)
def test_every_mig_profile_is_found_by_its_names(model):
    for profile in model.geometry("mig").profiles:
        for spelling in (profile.name, profile.name.upper(), f"MIG {profile.name}", *profile.aliases):
            assert model.find(spelling) == (("mig", profile),), spelling


@pytest.mark.parametrize(
    ("name", "spelling", "profiles"),
    [
        ("A100-80GB", "3g.40gb", ["3g.40gb"]),
        ("A100-80GB", "3g.39gb", ["3g.40gb"]),
        ("A100-80GB", "7g.79gb", ["7g.80gb"]),
        ("A100-80GB", "MIG 3g.40gb", ["3g.40gb"]),
        ("A100-80GB", "MIG 3g.40gb Device 0:", ["3g.40gb"]),
        ("A100-80GB", "3g.37gb", []),
        ("A100-80GB", "4g", ["4g.40gb"]),
        ("A100-80GB", "1g", ["1g.10gb"]),
        ("A100-80GB", "1g+me", ["1g.10gb+me"]),
        ("A100-80GB", "grid_a100d-3-40c", ["3g.40gb"]),
        ("A100-80GB", "A100D-3-40C", ["3g.40gb"]),
        ("A100-80GB", "GRID A100DX-3-40C", ["3g.40gb"]),
        ("A100-80GB", "grid_a100d-1-10cme", ["1g.10gb+me"]),
        ("A100-80GB", "nvidia-4-40c", ["4g.40gb"]),
        ("A100-80GB", "nvidia-1-10c", ["1g.10gb"]),
        ("A100-80GB", "grid_a100-4-40c", []),  # not a real type: a100 is the 40 GB one
        ("A100-40GB", "grid_a100-4-40c", []),
        ("A100-40GB", "grid_a100-4-20c", ["4g.20gb"]),
        ("A100-40GB", "nvidia-4-40c", []),
        ("A100-40GB", "nvidia-4-20c", ["4g.20gb"]),
        ("H100-80GB", "H100-7-80C", ["7g.80gb"]),
        ("H100-80GB", "H100-80C", ["H100-80C", "H100-80C"]),  # equal-size and mixed-size, but not MIG
        ("GB200-186GB", "7g.189gb", ["7g.186gb"]),
        ("GB200-186GB", "1g.24gb", ["1g.23gb"]),
        ("GB200-186GB", "GB200-1-24CME", ["1g.23gb+me"]),
        ("A40", "nvidia_a40-1b", ["A40-1B", "A40-1B"]),
        ("T4", "T4-4Q", ["T4-4Q"]),
        ("T4", "grid_t4-16q", ["T4-16Q"]),
        ("T4", "whole", ["whole"]),
        ("T4", "4g", []),
        ("T4", "", []),
        ("A100-80GB", "1c.3g.40gb", []),
        ("A100-80GB", "9" * 5000 + "g", []),
    ],
)
def test_spellings_of_profiles(name, spelling, profiles):
    assert [profile.name for _, profile in gpu(name).find(spelling)] == profiles


@pytest.mark.parametrize(
    ("name", "spelling", "message"),
    [
        ("A100-80GB", "3g.41g", "A100-80GB: unknown profile '3g.41g'; did you mean '3g.40gb'"),
        ("T4", "T4-4X", "T4: unknown profile 'T4-4X'; did you mean 'T4-4"),
        ("A100-80GB", "", "A100-80GB: unknown profile ''; MIG profiles are 1g.10gb,"),
        ("A100-80GB", "1c.3g.40gb", "'1c.3g.40gb' is a compute instance; ask for its GPU instance profile '3g.40gb'"),
    ],
)
def test_unknown_profiles_are_refused_with_what_would_be_right(name, spelling, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        gpu(name).profile(spelling)


def test_one_name_has_another_id_on_another_gpu():
    keys = [("0x20B0", 15), ("0x20B0", 19), ("0x20B2", 15), ("0x20B2", 19)]
    assert {key: catalog.profile_by_id(*key)[1].name for key in keys} == {
        ("0x20B0", 15): "1g.10gb",
        ("0x20B0", 19): "1g.5gb",
        ("0x20B2", 15): "1g.20gb",
        ("0x20B2", 19): "1g.10gb",
    }


@pytest.mark.parametrize(
    ("device", "number", "message"),
    [
        ("0x20B2", 99, "A100-80GB: no GPU instance profile id 99; ids are 19 (1g.10gb), 20 (1g.10gb+me)"),
        ("0x1EB8", 19, "T4 has no mode 'mig'; its modes are vgpu-equal-1,"),
        ("0xFFFF", 19, "PCI device id 0xFFFF is not in the catalogue"),
    ],
)
def test_unknown_ids_are_refused(device, number, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        catalog.profile_by_id(device, number)


def test_which_gpus_have_a_profile():
    assert set(catalog.profile_exists("3g.40gb")) >= {"A100-80GB", "H100-80GB"}
    assert catalog.profile_exists("T4-4Q") == ("T4",)
    assert catalog.profile_exists("11g") == ()


@pytest.mark.parametrize("text", ["GRID T4-4Q", "grid_t4-4q", "NVIDIA T4-4Q", "nvidia_t4-4q", " T4-4Q "])
def test_brands_and_case_do_not_matter(text):
    assert fold(text) == "t4-4q"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((1, 9728, 81920), "1g.10gb"),
        ((3, 40192, 81920), "3g.40gb"),
        ((7, 80640, 80896), "7g.79gb"),  # the same profile under a driver that reports less memory
        ((1, 9728, 81920, ["me"]), "1g.10gb+me"),
        ((1, 24192, 98304, ["me.all"]), "1g.24gb+me.all"),
        ((1, 24192, 98304, ["-me"]), "1g.24gb-me"),
    ],
)
def test_the_drivers_rule_for_names(arguments, name):
    assert driver_name(*arguments) == name


# -- users' own files --------------------------------------------------------------------------------------------------

OWN = """\
format = "gpu-partitioner/gpu"
version = 1
name = "{name}"
product_names = ["NVIDIA {name}"]
aliases = ["{name}-alias"]
architecture = "Rubin"
pci_device_ids = ["0xABCD"]
memory_gib = 32
as_of = 2026-01-02

[sources]
bench = {{ title = "read off our own machine", as_of = 2026-01-02 }}

[mig]
compute_slices = 2
memory_slices = 2
max_gpu_instances = 2
sources = ["bench"]

[[mig.profiles]]
name = "1g.16gb"
compute_slices = 1
memory_mib = 15872
starts = [0, 1]
extent = 1
max_count = 2
source = {{ starts = "bench" }}

[[mig.profiles]]
name = "2g.32gb"
compute_slices = 2
memory_mib = 32256
starts = [0]
extent = 2
max_count = 1

[[boards]]
prefix = "OWN"
product = "{name} board"
types = [
  {{ name = "OWN-8Q", series = "Q", frame_buffer_mib = 8192, max_per_gpu = 4 }},
  {{ name = "OWN-1-16C", series = "C", frame_buffer_mib = 16384, max_per_gpu = 2, gi_profile = "1g.16gb" }},
]
"""


@pytest.fixture
def write(tmp_path):
    def write(*changes, name="Own-GPU", suffix=".toml"):
        text = OWN.format(name=name)
        for old, new in changes:
            assert text.count(old) >= 1, old
            text = text.replace(old, new, 1)
        path = tmp_path / f"gpu{suffix}"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def added():
    """Names that a test adds; the catalogue of the process is as before when it ends."""
    names = []
    yield names
    for name in names:
        catalog._models().pop(name, None)
    catalog._spellings.cache_clear()


def test_an_own_gpu_is_checked_without_being_added(write):
    model = catalog.check(write(name="Own-Checked"))
    assert model.modes == ("mig", "vgpu-equal-8", "whole")
    assert [str(p) for p in model.geometry("mig").layout_of({"1g.16gb": 2})] == ["1g.16gb@0", "1g.16gb@1"]
    assert "Own-Checked" not in catalog.names()


def test_an_own_gpu_is_added_and_found_by_all_its_names(write, added):
    added.append("Own-Added")
    model = catalog.add(write(name="Own-Added"))
    for spelling in ("Own-Added", "own-added", "NVIDIA Own-Added", "Own-Added-alias", "0xABCD", 0xABCD):
        assert gpu(spelling) is model
    assert "Own-Added" in catalog.names()
    assert catalog.profile_exists("OWN-1-16C") == ("Own-Added",)
    assert catalog.add(write(name="Own-Added")) == model  # the same file twice changes nothing
    assert catalog.names() == tuple(sorted(catalog.names()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([('name = "Own-Clash"', 'name = "T4"')], "GPU name 'T4' is taken; choose another"),
        ([('"Own-Clash-alias"', '"A100-80GB"')], "'A100-80GB' already means A100-80GB; choose another name"),
        ([('"NVIDIA Own-Clash"', '"Tesla T4"')], "'Tesla T4' already means T4"),
        ([('"Own-Clash-alias"', '"nvidia h100_80gb_hbm3"')], "already means H100-80GB"),
        ([('"Own-Clash board"', '"NVIDIA A40"')], "'NVIDIA A40' already means A40"),
    ],
)
def test_a_taken_name_is_refused_and_nothing_is_added(write, changes, message):
    before = catalog.names()
    path = write(*changes, name="Own-Clash")
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        catalog.add(path)
    assert caught.value.problems[0].origin == str(path)
    assert catalog.names() == before


def test_all_problems_of_a_file_come_at_once_with_their_lines(write):
    path = write(
        ("version = 1", "version = 2"),
        ("memory_gib = 32", 'memory_gib = "much"'),
        ("as_of = 2026-01-02", "as_of = 2026-01-02\ncolour = 3"),
        ("memory_slices = 2", "memory_slices = 0"),
        ("starts = [0]", "starts = []"),
        ("max_count = 1", ""),
        ('series = "C"', 'series = "X"'),
    )
    with pytest.raises(SpecError) as caught:
        catalog.check(path)
    lines = path.read_text().splitlines()
    found = {problem.field: problem for problem in caught.value.problems}
    assert set(found) == {
        "version",
        "memory_gib",
        "colour",
        "mig.memory_slices",
        "mig.profiles[1].starts",
        "mig.profiles[1].max_count",
        "boards[0].types[1].series",
    }
    texts = {field: lines[problem.line - 1] for field, problem in found.items()}
    assert texts == {
        "version": "version = 2",
        "memory_gib": 'memory_gib = "much"',
        "colour": "colour = 3",
        "mig.memory_slices": "memory_slices = 0",
        "mig.profiles[1].starts": "starts = []",
        "mig.profiles[1].max_count": "[[mig.profiles]]",
        "boards[0].types[1].series": next(line for line in lines if 'series = "X"' in line),
    }
    assert found["mig.profiles[1].max_count"].line == lines.index("[[mig.profiles]]", lines.index("[[mig.profiles]]") + 1) + 1
    assert "field 'max_count' is missing" in str(found["mig.profiles[1].max_count"])
    assert "unknown field 'colour'" in str(found["colour"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([('sources = ["bench"]', 'sources = ["bench", "gossip"]')], "sources cited but not listed under [sources]: gossip"),
        ([('{ starts = "bench" }', '{ starts = "hearsay" }')], "not listed under [sources]: hearsay"),
        ([('gi_profile = "1g.16gb"', 'gi_profile = "1g.8gb"')], "GPU instance profiles that are not listed under [mig]: 1g.8gb"),
        ([("starts = [0, 1]", "starts = [0, 2]")], "profile '1g.16gb' at start 2 leaves the GPU's 2 units"),
        ([("starts = [0, 1]", "starts = [1, 0]")], "must ascend"),
        ([('name = "2g.32gb"', 'name = "1g.16gb"')], "profile '1g.16gb' is listed twice"),
        ([('name = "OWN-8Q"', 'name = "OWN_8Q"')], "vGPU type 'OWN_8Q' is not named OWN-<GB><series>, e.g. OWN-4Q"),
        ([('"0xABCD"', '"ABCD"')], "pci_device_ids[0]: string should match pattern"),
        ([('name = "Own-GPU"', 'name = "two words"')], "name: string should match pattern"),
        ([("as_of = 2026-01-02", "as_of = 2026-13-02")], "not TOML"),
        ([("[mig]", "[mig")], "not TOML"),
        ([("memory_gib = 32", "memory_gib = -1")], "memory_gib: input should be greater than or equal to 0, not -1"),
        ([("memory_gib = 32", "memory_gib = nan")], "memory_gib: input should be a finite number, not nan"),
        ([("max_count = 2", "max_count = 10000")], "max_count: input should be less than or equal to 4096, not 10000"),
    ],
)
def test_files_that_are_wrong_are_refused(write, changes, message):
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        catalog.check(write(*changes))
    assert all(problem.origin.endswith("gpu.toml") for problem in caught.value.problems)


def test_a_gpu_is_described_in_toml(write, tmp_path):
    path = tmp_path / "gpu.yaml"
    path.write_text("name: X")
    with pytest.raises(SpecError, match=r"gpu.yaml: a GPU is described in a .toml file"):
        catalog.check(path)
    with pytest.raises(SpecError, match="no such file"):
        catalog.add(tmp_path / "none.toml")


def test_names_are_sorted():
    assert all(first < second for first, second in pairwise(catalog.names()))
