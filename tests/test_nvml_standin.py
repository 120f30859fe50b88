"""The stand-in for NVIDIA's library, seen through the real pynvml: does it obey NVIDIA's rules, and fail when told to?"""

import random
import subprocess
import sys
import threading
import time
from ctypes import Structure, byref, c_char, c_uint, c_ulonglong, sizeof
from pathlib import Path

import independent
import pynvml
import pytest
from nvml import Card, Machine, build, state
from nvml.tables import profile_ids
from pynvml import NVMLError

from partitioner import catalog

MIG = [name for name in catalog.names() if catalog.gpu(name).record.mig]
A100, A30, T4 = "A100-80GB", "A30-24GB", "T4"
WALKED = [A100, A30, "RTX-PRO-6000-96GB", "Thor-iGPU"]  # eight, four and twelve slices, engine totals, limits of kinds


@pytest.fixture
def standin(tmp_path):
    """A function that makes a machine and starts the real pynvml on it."""
    opened = []

    def start(*cards, init=True):
        opened.append(Machine(tmp_path / f"machine-{len(opened)}", cards).__enter__())
        if init:
            pynvml.nvmlInit()
        return opened[-1]

    yield start
    for machine in reversed(opened):
        machine.__exit__()


def gpu(index=0):
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def create(handle, profile_id, start=None, size=1):
    if start is None:
        return pynvml.nvmlDeviceCreateGpuInstance(handle, profile_id)
    placement = pynvml.c_nvmlGpuInstancePlacement_t(start, size)
    return pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(handle, profile_id, byref(placement))


def fill(gi, profile_id):
    return pynvml.nvmlGpuInstanceCreateComputeInstance(gi, profile_id)


def refusal(call, *arguments):
    with pytest.raises(NVMLError) as caught:
        call(*arguments)
    return caught.value.value


def run(machine, code, *, library=True):
    return subprocess.run(
        [sys.executable, "-c", f"from pynvml import *\nfrom ctypes import byref\n{code}"],
        env=machine.environment(library=library),
        capture_output=True,
        text=True,
        check=False,
    )


def smi(machine, *arguments):
    program = str(build().folder / "nvidia-smi")
    done = subprocess.run([program, *arguments], env=machine.environment(), capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


# -- what it is --------------------------------------------------------------------------------------------------------


def test_pynvml_finds_it_in_this_process_and_in_a_child(standin):
    machine = standin(A100, T4)
    assert pynvml.nvmlDeviceGetCount() == 2
    assert pynvml.nvmlSystemGetDriverVersion() == "580.95.05"
    assert pynvml.nvmlSystemGetNVMLVersion() == "13.580.95.05"
    assert pynvml.nvmlSystemGetCudaDriverVersion_v2() == 13000
    done = run(machine, "nvmlInit(); print([nvmlDeviceGetName(nvmlDeviceGetHandleByIndex(i)) for i in range(2)]); nvmlShutdown()")
    assert done.stdout == "['NVIDIA A100-SXM4-80GB', 'Tesla T4']\n", done.stderr


def test_a_device_is_what_the_catalogue_says(standin):
    standin(T4, A100)
    handle = gpu(1)
    pci = pynvml.nvmlDeviceGetPciInfo(handle)
    assert (pci.pciDeviceId, pci.busId, pci.busIdLegacy) == (0x20B210DE, "00000000:0F:00.0", "0000:0F:00.0")
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    assert uuid.startswith("GPU-")
    for again in (
        pynvml.nvmlDeviceGetHandleByUUID(uuid.encode()),
        pynvml.nvmlDeviceGetHandleByPciBusId(b"00000000:0F:00.0"),
        pynvml.nvmlDeviceGetHandleByPciBusId(b"0000:0f:00.0"),
    ):
        assert pynvml.nvmlDeviceGetIndex(again) == 1
    assert pynvml.nvmlDeviceGetMemoryInfo(handle).total == 80 << 30
    newer = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    assert newer.total == newer.free + newer.used + newer.reserved
    assert pynvml.nvmlDeviceGetArchitecture(handle) == pynvml.NVML_DEVICE_ARCH_AMPERE
    assert pynvml.nvmlDeviceGetMinorNumber(handle) == 1
    assert refusal(pynvml.nvmlDeviceGetHandleByIndex, 2) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert refusal(pynvml.nvmlDeviceGetHandleByUUID, b"GPU-none") == pynvml.NVML_ERROR_NOT_FOUND


class ProfileInfoV3(Structure):
    _fields_ = [
        *[(name, c_uint) for name in ["version", "id", "slices", "count", "sms", "copy", "decoders", "encoders", "jpeg", "ofa"]],
        ("memory", c_ulonglong),
        ("name", c_char * 96),
        ("capabilities", c_uint),
    ]


@pytest.mark.parametrize("name", MIG)
def test_profiles_and_placements_are_the_catalogue_s(standin, name):
    standin(name)  # MIG mode is off: profiles and placements answer all the same
    seen = {}
    for enumerator in range(0x12):
        try:
            info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu(), enumerator)
        except pynvml.NVMLError_NotSupported:
            continue
        older = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu(), enumerator, version=1)
        newer = ProfileInfoV3(version=sizeof(ProfileInfoV3) | 3 << 24)
        assert not pynvml.nvmlLib.nvmlDeviceGetGpuInstanceProfileInfoV(gpu(), enumerator, byref(newer))
        assert (older.id, older.memorySizeMB, older.multiprocessorCount) == (info.id, info.memorySizeMB, info.multiprocessorCount)
        assert (newer.id, newer.memory, newer.sms, newer.name.decode()) == (
            info.id,
            older.memorySizeMB,
            older.multiprocessorCount,
            info.name,
        )
        assert older.ofaCount == newer.ofa == info.ofaCount
        count = c_uint()
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(gpu(), info.id, None, byref(count))
        placements = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(gpu(), info.id, placements, byref(count))
        starts = tuple(placement.start for placement in placements)
        seen[info.name] = (info.id, info.sliceCount, info.instanceCount, info.memorySizeMB, starts, placements[0].size)
    ids = profile_ids(name)
    profiles = catalog.gpu(name).record.mig.profiles
    assert seen == {
        f"MIG {p.name}": (ids[p.name], p.compute_slices, p.max_count, p.memory_mib, p.starts, p.extent) for p in profiles
    }


def test_an_array_that_is_too_small_is_not_overrun(standin):
    standin(A100)
    count, placements = c_uint(3), (pynvml.c_nvmlGpuInstancePlacement_t * 3)()
    answer = refusal(pynvml.nvmlDeviceGetGpuInstancePossiblePlacements, gpu(), 19, placements, byref(count))
    assert answer == pynvml.NVML_ERROR_INSUFFICIENT_SIZE
    assert pynvml.nvmlLib.nvmlDeviceGetUUID(gpu(), (c_char * 8)(), 8) == pynvml.NVML_ERROR_INSUFFICIENT_SIZE


# -- geometry ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WALKED)
def test_every_layout_can_be_made_and_nothing_else(standin, name):
    """Walk all layouts: in each, try every placement of every profile, and compare with the independent checker."""
    machine = standin(Card(name, mig=True))
    handle, rules, ids = gpu(), independent.rules(name)["mig"], profile_ids(name)
    every = [(shape.name, start, shape.extent) for shape in rules.shapes for start in shape.starts]
    seen = {frozenset()}

    def visit(layout):
        for profile, start, extent in every:
            larger = [*layout, (profile, start)]
            try:
                instance = create(handle, ids[profile], start, extent)
            except pynvml.NVMLError_InsufficientResources:
                assert not independent.legal(rules, larger), larger
                continue
            assert independent.legal(rules, larger), larger
            if frozenset(larger) not in seen:
                seen.add(frozenset(larger))
                visit(larger)
            pynvml.nvmlGpuInstanceDestroy(instance)

    visit([])
    assert seen == independent.layouts(rules)
    assert not machine.placed(0)


@pytest.mark.parametrize("name", MIG)
def test_random_orders_agree_with_the_independent_checker(standin, name):
    standin(Card(name, mig=True))
    choice, rules, ids = random.Random(name), independent.rules(name)["mig"], profile_ids(name)
    every = [(shape.name, start, shape.extent) for shape in rules.shapes for start in shape.starts]
    placed = {}
    for _ in range(400):
        profile, start, extent = choice.choice(every)
        if (profile, start) in placed:
            pynvml.nvmlGpuInstanceDestroy(placed.pop((profile, start)))
            continue
        fits = independent.legal(rules, [*placed, (profile, start)])
        try:
            placed[profile, start] = create(gpu(), ids[profile], start, extent)
            assert fits, (placed, profile, start)
        except pynvml.NVMLError_InsufficientResources:
            assert not fits, (placed, profile, start)


def test_a_start_or_size_that_is_not_listed_is_an_invalid_argument(standin):
    standin(Card(A100, mig=True))
    for profile, start, size in ((9, 2, 4), (9, 4, 3), (14, 6, 2), (77, 0, 1)):
        assert refusal(create, gpu(), profile, start, size) == pynvml.NVML_ERROR_INVALID_ARGUMENT


# NVIDIA MIG user guide, "Creating GPU Instances": ids as created, and the placements that -lgi then lists.
@pytest.mark.parametrize(
    ("order", "created"),
    [
        ([9, 9], [(2, 4), (1, 0)]),
        ([9, 19, 14, 19], [(2, 4), (7, 0), (4, 2), (8, 1)]),
        ([14, 19, 19, 19, 19, 19], [(5, 4), (13, 6), (7, 0), (8, 1), (9, 2), (10, 3)]),
        ([19] * 7, [(13, 6), (11, 4), (12, 5), (7, 0), (8, 1), (9, 2), (10, 3)]),
        ([19, 19, 14, 9], [(13, 6), (11, 4), (3, 0), None]),
    ],
)
def test_without_a_placement_the_order_of_creation_decides(standin, order, created):
    standin(Card("A100-40GB", mig=True))
    for profile, expected in zip(order, created, strict=True):
        if expected is None:
            assert refusal(create, gpu(), profile) == pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES
        else:
            info = pynvml.nvmlGpuInstanceGetInfo(create(gpu(), profile))
            assert (info.id, info.placement.start, info.profileId) == (*expected, profile)


def test_remaining_capacity_counts_what_still_fits(standin):
    standin(Card(A100, mig=True, layout=[("3g.40gb", 0)]))
    left = {profile: pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(gpu(), profile) for profile in (19, 15, 14, 9, 5, 0)}
    assert left == {19: 3, 15: 2, 14: 1, 9: 1, 5: 0, 0: 0}


# -- instances ---------------------------------------------------------------------------------------------------------


def test_lists_ids_and_information_of_gpu_instances(standin):
    standin(Card(A100, mig=True, layout=[("3g.40gb", 4), ("1g.10gb", 1)]))
    instance = pynvml.nvmlDeviceGetGpuInstanceById(gpu(), 2)
    info = pynvml.nvmlGpuInstanceGetInfo(instance)
    assert (info.profileId, info.placement.start, info.placement.size) == (9, 4, 4)
    assert pynvml.nvmlDeviceGetIndex(info.device) == 0
    assert refusal(pynvml.nvmlDeviceGetGpuInstanceById, gpu(), 3) == pynvml.NVML_ERROR_NOT_FOUND
    for profile, ids in ((9, [2]), (19, [8]), (14, [])):
        count, array = c_uint(), (pynvml.c_nvmlGpuInstance_t * 7)()
        pynvml.nvmlDeviceGetGpuInstances(gpu(), profile, array, byref(count))
        assert [pynvml.nvmlGpuInstanceGetInfo(array[n]).id for n in range(count.value)] == ids


def test_a_gpu_instance_in_use_is_not_destroyed(standin):
    machine = standin(Card(A100, mig=True))
    instance = create(gpu(), 9, 4, 4)
    compute = fill(instance, 2)
    assert refusal(pynvml.nvmlGpuInstanceDestroy, instance) == pynvml.NVML_ERROR_IN_USE
    machine.run_process(4242, 0, gi=2, ci=0)
    assert refusal(pynvml.nvmlComputeInstanceDestroy, compute) == pynvml.NVML_ERROR_IN_USE
    machine.end_process(4242)
    pynvml.nvmlComputeInstanceDestroy(compute)
    machine.run_process(4243, 0, gi=2)
    assert refusal(pynvml.nvmlGpuInstanceDestroy, instance) == pynvml.NVML_ERROR_IN_USE
    machine.end_process(4243)
    pynvml.nvmlGpuInstanceDestroy(instance)
    assert not machine.placed(0)


def test_the_handle_of_a_destroyed_instance_is_invalid_though_its_id_is_used_again(standin):
    standin(Card(A100, mig=True))
    first = create(gpu(), 9, 4, 4)
    pynvml.nvmlGpuInstanceDestroy(first)
    second = create(gpu(), 9, 4, 4)
    assert pynvml.nvmlGpuInstanceGetInfo(second).id == 2
    assert refusal(pynvml.nvmlGpuInstanceGetInfo, first) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert refusal(pynvml.nvmlGpuInstanceDestroy, first) == pynvml.NVML_ERROR_INVALID_ARGUMENT


@pytest.mark.parametrize("name", [A100, A30])
def test_compute_instances_obey_their_own_geometry(standin, name):
    """In every GPU instance profile, every set of compute instance placements, against starts and sizes of the catalogue."""
    standin(Card(name, mig=True))
    ids = profile_ids(name)
    for profile in catalog.gpu(name).record.mig.profiles:
        instance = create(gpu(), ids[profile.name], profile.starts[0], profile.extent)
        every = [(ci, start) for ci in profile.compute_instances for start in ci.starts]
        seen = set()

        def visit(layout, *, instance=instance, every=every, seen=seen, profile=profile):
            for ci, start in every:
                cells = [cell for other, s in [*layout, (ci, start)] for cell in range(s, s + other.compute_slices)]
                alike = sum(other == ci for other, _ in layout)
                legal = len(set(cells)) == len(cells) <= profile.compute_slices and alike < ci.max_count
                placement = pynvml.c_nvmlComputeInstancePlacement_t(start, ci.compute_slices)
                try:
                    made = pynvml.nvmlGpuInstanceCreateComputeInstanceWithPlacement(instance, ci.ci_profile_id, byref(placement))
                except pynvml.NVMLError_InsufficientResources:
                    assert not legal, (profile.name, layout, ci, start)
                    continue
                assert legal, (profile.name, layout, ci, start)
                key = frozenset((other.ci_profile_id, s) for other, s in [*layout, (ci, start)])
                if key not in seen:
                    seen.add(key)
                    visit([*layout, (ci, start)])
                pynvml.nvmlComputeInstanceDestroy(made)

        visit([])
        assert seen
        pynvml.nvmlGpuInstanceDestroy(instance)


def test_compute_instance_profiles_lists_and_information(standin):
    standin(Card(A100, mig=True))
    instance = create(gpu(), 9, 0, 4)
    found = {}
    for enumerator in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        try:
            info = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, enumerator, 0)
        except pynvml.NVMLError_NotSupported:
            continue
        found[info.name] = (info.id, info.sliceCount, info.instanceCount, info.multiprocessorCount)
        assert pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, enumerator, 0, version=1).id == info.id
    assert found == {"MIG 1c.3g.40gb": (0, 1, 3, 14), "MIG 2c.3g.40gb": (1, 2, 1, 28), "MIG 3g.40gb": (2, 3, 1, 42)}
    ids = [pynvml.nvmlComputeInstanceGetInfo(fill(instance, 0)).id for _ in range(3)]
    assert ids == [0, 1, 2]
    assert refusal(fill, instance, 0) == pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES
    assert pynvml.nvmlGpuInstanceGetComputeInstanceRemainingCapacity(instance, 0) == 0
    second = pynvml.nvmlGpuInstanceGetComputeInstanceById(instance, 1)
    info = pynvml.nvmlComputeInstanceGetInfo(second)
    assert (info.profileId, info.placement.start, info.placement.size) == (0, 1, 1)
    assert pynvml.nvmlGpuInstanceGetInfo(info.gpuInstance).id == 1
    count, array = c_uint(), (pynvml.c_nvmlComputeInstance_t * 7)()
    pynvml.nvmlGpuInstanceGetComputeInstances(instance, 0, array, byref(count))
    assert count.value == 3
    assert refusal(pynvml.nvmlGpuInstanceGetComputeInstanceById, instance, 3) == pynvml.NVML_ERROR_NOT_FOUND


def test_mig_devices(standin):
    standin(Card(A100, mig=True, layout=[("3g.40gb", 4), ("1g.10gb", 1)]), A30)
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu()) == 7
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu(1)) == 0
    device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(), 0)
    assert pynvml.nvmlDeviceIsMigDeviceHandle(device).value == 1
    assert pynvml.nvmlDeviceIsMigDeviceHandle(gpu()).value == 0
    assert (pynvml.nvmlDeviceGetGpuInstanceId(device), pynvml.nvmlDeviceGetComputeInstanceId(device)) == (2, 0)
    assert pynvml.nvmlDeviceGetName(device) == "NVIDIA A100-SXM4-80GB MIG 3g.40gb"
    assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)) == 0
    attributes = pynvml.nvmlDeviceGetAttributes(device)
    assert (attributes.gpuInstanceSliceCount, attributes.multiprocessorCount, attributes.memorySizeMB) == (3, 42, 40192)
    uuid = pynvml.nvmlDeviceGetUUID(device)
    assert uuid.startswith("MIG-")
    assert pynvml.nvmlDeviceGetGpuInstanceId(pynvml.nvmlDeviceGetHandleByUUID(uuid.encode())) == 2
    assert refusal(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu(), 2) == pynvml.NVML_ERROR_NOT_FOUND


def test_the_same_place_gets_the_same_uuid_again(standin):
    machine = standin(Card(A100, mig=True, layout=[("3g.40gb", 4)]))
    before = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(), 0))
    machine.take(0, 4)
    fill(create(gpu(), 9, 0, 4), 2)
    other = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(), 0))
    fill(create(gpu(), 9, 4, 4), 2)
    again = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(), 1))
    assert before == again != other


# -- processes ---------------------------------------------------------------------------------------------------------


def test_processes_are_listed_with_their_instances(standin):
    machine = standin(Card(A100, mig=True, layout=[("3g.40gb", 4), ("1g.10gb", 1)]), T4)
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(gpu()) == []
    machine.run_process(100, 0, gi=2, ci=0, name="trainer", memory_mib=1000)
    machine.run_process(101, 0, gi=8, ci=0)
    machine.run_process(102, 1, name="Xorg", kind="graphics")
    machine.run_process(103, 1, kind="mps")
    listed = [(p.pid, p.gpuInstanceId, p.computeInstanceId) for p in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu())]
    assert listed == [(100, 2, 0), (101, 8, 0)]
    device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(), 1)
    assert [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses_v2(device)] == [101]
    [graphics] = pynvml.nvmlDeviceGetGraphicsRunningProcesses(gpu(1))
    assert (graphics.pid, graphics.gpuInstanceId) == (102, 0xFFFFFFFF)
    assert [p.pid for p in pynvml.nvmlDeviceGetMPSComputeRunningProcesses(gpu(1))] == [103]
    assert pynvml.nvmlSystemGetProcessName(100) == "trainer"
    assert refusal(pynvml.nvmlSystemGetProcessName, 999) == pynvml.NVML_ERROR_NOT_FOUND
    assert pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(), 0)).used == 1000 << 20


def test_a_process_that_lives_only_so_long(standin):
    machine = standin(Card(A100, mig=True, layout=[("3g.40gb", 4)]))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        machine.run_process(child.pid, 0, gi=2, ci=0, only_while_alive=True)
        assert [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu())] == [child.pid]
        child.kill()
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(gpu()) == []


def test_a_process_that_has_the_whole_gpu_open_prevents_instances(standin):
    machine = standin(Card(A100, mig=True))
    machine.run_process(7, 0, kind="graphics", name="Xorg")
    assert refusal(create, gpu(), 9, 4, 4) == pynvml.NVML_ERROR_IN_USE
    machine.end_process(7)
    create(gpu(), 9, 4, 4)


# -- MIG mode ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "survives"), [(A100, True), (A30, True), ("H100-80GB", False)])
def test_the_mode_and_what_a_reboot_leaves(standin, name, survives):
    machine = standin(name)
    profile = profile_ids(name)[catalog.gpu(name).record.mig.profiles[0].name]
    assert refusal(create, gpu(), profile, 0, 1) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == pynvml.NVML_SUCCESS
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [1, 1]
    create(gpu(), profile, 0, 1)
    machine.reboot()
    assert not machine.placed(0)
    assert machine.mode(0) == (survives, survives)


def test_a_mode_change_waits_while_something_uses_the_gpu(standin):
    machine = standin(Card(A100, mig=True, layout=[("1g.10gb", 0)]), A30)
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 0) == pynvml.NVML_ERROR_IN_USE
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [1, 0]
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == pynvml.NVML_SUCCESS
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [1, 1]
    machine.run_process(55, 1, kind="monitor", name="dcgm")
    assert pynvml.nvmlDeviceSetMigMode(gpu(1), 1) == pynvml.NVML_ERROR_IN_USE
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(gpu(1)) == []
    machine.end_process(55)
    assert pynvml.nvmlDeviceSetMigMode(gpu(1), 1) == pynvml.NVML_SUCCESS
    assert machine.mode(1) == (True, True)


def test_a_mode_that_waits_for_a_reset(standin):
    machine = standin(Card(A100, needs_reset=True))
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == pynvml.NVML_ERROR_RESET_REQUIRED
    assert machine.mode(0) == (False, True)
    assert smi(machine, "--gpu-reset", "-i", "0") == (0, "GPU 00000000:07:00.0 was successfully reset.\nAll done.\n")
    assert machine.mode(0) == (True, True)


def test_in_a_vm_the_mode_waits_for_a_reboot(standin):
    machine = standin(Card(A100, needs_external_reset=True))
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert machine.mode(0) == (False, True)
    assert smi(machine, "--gpu-reset", "-i", "0") == (3, "Resetting GPU 00000000:07:00.0 is not supported.\n")
    machine.reboot()
    assert machine.mode(0) == (True, True)


def test_a_gpu_without_mig_says_so(standin):
    standin(T4)
    assert refusal(pynvml.nvmlDeviceGetMigMode, gpu()) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert refusal(pynvml.nvmlDeviceSetMigMode, gpu(), 1) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert refusal(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, gpu(), 0) == pynvml.NVML_ERROR_NOT_SUPPORTED


# -- the state file ----------------------------------------------------------------------------------------------------

CREATE = """
nvmlInit()
gpu = nvmlDeviceGetHandleByIndex(0)
for start in range(7):
    placement = c_nvmlGpuInstancePlacement_t(start, 1)
    try:
        gi = nvmlDeviceCreateGpuInstanceWithPlacement(gpu, 19, byref(placement))
        nvmlGpuInstanceCreateComputeInstance(gi, 0)
        print(start)
    except NVMLError_InsufficientResources:
        pass
"""


@pytest.mark.parametrize(
    ("action", "left"), [("kill before", [(0, 1), (1, 1), (2, 0)]), ("kill after", [(0, 1), (1, 1), (2, 1)])]
)
def test_what_a_killed_process_did_stays_and_the_next_goes_on(tmp_path, action, left):
    machine = Machine(tmp_path / "machine", [Card(A100, mig=True)])
    machine.fail("change", action, at=6)
    assert run(machine, CREATE).returncode == -9
    assert [(instance.start, len(instance.compute)) for instance in machine.instances(0)] == left
    assert len(machine.changes()) == (5 if action == "kill before" else 6)
    done = run(machine, CREATE)
    assert done.stdout.split() == ["3", "4", "5", "6"], done.stderr
    assert [instance.start for instance in Machine(machine.path).instances(0)] == list(range(7))


def test_a_forked_process_is_killed_and_this_one_goes_on(standin):
    """The fast way to many kill points: the child inherits the library and its lock, and dies inside a call."""
    machine = standin(Card(A100, mig=True))

    def work():
        pynvml.nvmlInit()
        for start in range(7):
            create(gpu(), 19, start)

    for left in range(1, 7):
        machine.fail("change", "kill after", at=left)
        assert machine.in_child(work) == -9
        assert [instance.start for instance in machine.instances(0)] == list(range(left))
        for start in range(left):
            pynvml.nvmlGpuInstanceDestroy(pynvml.nvmlDeviceGetGpuInstanceById(gpu(), 7 + start))
    assert machine.in_child(work) == 0
    assert refusal(create, gpu(), 19) == pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES


def test_processes_at_the_same_time_lose_nothing(tmp_path):
    machine = Machine(tmp_path / "machine", [Card(A100, mig=True)])
    code = """
from pynvml import *
from ctypes import byref
import sys
nvmlInit()
gpu, placement = nvmlDeviceGetHandleByIndex(0), c_nvmlGpuInstancePlacement_t(int(sys.argv[1]), 1)
for _ in range(3000):
    nvmlGpuInstanceDestroy(nvmlDeviceCreateGpuInstanceWithPlacement(gpu, 19, byref(placement)))
"""
    children = [subprocess.Popen([sys.executable, "-c", code, str(n)], env=machine.environment()) for n in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    counts = machine.counts()
    assert counts["nvmlDeviceCreateGpuInstanceWithPlacement"] == counts["nvmlGpuInstanceDestroy"] == 9000
    assert not machine.placed(0)


def test_the_machine_stands_still_while_a_test_holds_it(standin):
    machine = standin(A100)
    handle = gpu()
    thread = threading.Thread(target=pynvml.nvmlDeviceGetUUID, args=(handle,))
    with machine.locked():
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
    thread.join()
    assert machine.counts()["nvmlDeviceGetUUID"] == 1


def test_a_second_machine_takes_the_place_of_the_first(standin):
    standin(A100)
    pynvml.nvmlShutdown()
    assert refusal(pynvml.nvmlDeviceGetCount) == pynvml.NVML_ERROR_UNINITIALIZED
    standin(T4, T4, T4)
    assert pynvml.nvmlDeviceGetCount() == 3


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_code_at_the_nth_call_of_a_function_on_a_gpu(standin):
    machine = standin(A100, A30)
    number = machine.fail("nvmlDeviceGetUUID", code=pynvml.NVML_ERROR_TIMEOUT, at=2, times=2, gpu=1)
    answers = []
    for index in (1, 0, 1, 0, 1, 1):
        try:
            answers.append(pynvml.nvmlDeviceGetUUID(gpu(index))[:4])
        except NVMLError as error:
            answers.append(error.value)
    assert answers == ["GPU-", "GPU-", 10, "GPU-", 10, "GPU-"]
    assert machine.hits(number) == 2


def test_every_code_of_nvml_comes_out_of_pynvml(standin):
    machine = standin(A100)
    codes = [*range(1, 31), pynvml.NVML_ERROR_UNKNOWN]
    for code in codes:
        machine.fail("nvmlDeviceGetMigMode", code=code)
        assert refusal(pynvml.nvmlDeviceGetMigMode, gpu()) == code
        assert pynvml.nvmlErrorString(code)
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [0, 0]


def test_classes_of_functions_and_wildcards(standin):
    machine = standin(Card(A100, mig=True))
    machine.fail("mig", code=pynvml.NVML_ERROR_NOT_SUPPORTED, times=0)
    assert refusal(pynvml.nvmlDeviceGetMigMode, gpu()) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert refusal(create, gpu(), 9) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert pynvml.nvmlDeviceGetName(gpu())
    machine.clear_faults()
    machine.fail("nvml*GpuInstance*", code=pynvml.NVML_ERROR_UNKNOWN)
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [1, 1]
    assert refusal(create, gpu(), 9) == pynvml.NVML_ERROR_UNKNOWN
    create(gpu(), 9)


def test_success_that_does_nothing_and_failure_that_does_something(standin):
    machine = standin(Card(A100, mig=True))
    machine.fail("change", "nothing")
    create(gpu(), 9, 4, 4)
    assert not machine.placed(0)
    machine.fail("change", "fail after", code=pynvml.NVML_ERROR_TIMEOUT)
    assert refusal(create, gpu(), 9, 4, 4) == pynvml.NVML_ERROR_TIMEOUT
    assert machine.placed(0) == {("3g.40gb", 4)}


def test_an_activation_that_needs_a_reset(standin):
    machine = standin(A100)
    machine.fail("nvmlDeviceSetMigMode", "activation", code=pynvml.NVML_ERROR_RESET_REQUIRED)
    assert pynvml.nvmlDeviceSetMigMode(gpu(), 1) == pynvml.NVML_ERROR_RESET_REQUIRED
    assert machine.mode(0) == (False, True)
    assert smi(machine, "--gpu-reset", "-i", "0")[0] == 0
    assert machine.mode(0) == (True, True)


def test_a_call_that_hangs_holds_up_no_other(standin):
    machine = standin(A100)
    handle = gpu()
    machine.fail("nvmlDeviceGetUUID", "hang", hang_s=0.15)
    thread = threading.Thread(target=pynvml.nvmlDeviceGetUUID, args=(handle,))
    began = time.monotonic()
    thread.start()
    while not machine.hits(0):
        time.sleep(0.001)
    assert pynvml.nvmlDeviceGetName(handle)
    assert time.monotonic() - began < 0.15
    thread.join()
    assert time.monotonic() - began >= 0.15


def test_a_call_that_never_returns_can_be_killed(tmp_path):
    machine = Machine(tmp_path / "machine", [A100])
    machine.fail("nvmlDeviceGetUUID", "hang")
    code = "from pynvml import *\nnvmlInit()\nnvmlDeviceGetUUID(nvmlDeviceGetHandleByIndex(0))"
    with subprocess.Popen([sys.executable, "-c", code], env=machine.environment()) as child:
        while not machine.hits(0):
            time.sleep(0.005)
        assert child.poll() is None
        child.kill()
    assert "nvmlDeviceGetUUID" not in machine.counts()  # it never answered


def test_a_gpu_that_fell_off_the_bus(standin):
    machine = standin(Card(A100, mig=True, layout=[("3g.40gb", 4)]), A30)
    handle, instance = gpu(), pynvml.nvmlDeviceGetGpuInstanceById(gpu(), 2)
    machine.lose(0)
    assert pynvml.nvmlDeviceGetCount() == 2
    for call, argument in (
        (pynvml.nvmlDeviceGetHandleByIndex, 0),
        (pynvml.nvmlDeviceGetUUID, handle),
        (pynvml.nvmlDeviceGetMigMode, handle),
        (pynvml.nvmlGpuInstanceDestroy, instance),
    ):
        assert refusal(call, argument) == pynvml.NVML_ERROR_GPU_IS_LOST
    assert pynvml.nvmlDeviceGetUUID(gpu(1))
    machine.reboot()
    assert pynvml.nvmlDeviceGetUUID(gpu(0))


def test_a_user_without_privilege(standin):
    machine = standin(Card(A100, mig=True, layout=[("3g.40gb", 4)]))
    machine.configure(privileged=False)
    count = c_uint()
    for call, *arguments in (
        (pynvml.nvmlDeviceSetMigMode, gpu(), 0),
        (create, gpu(), 9, 0, 4),
        (pynvml.nvmlDeviceGetGpuInstancePossiblePlacements, gpu(), 9, None, byref(count)),
        (pynvml.nvmlDeviceGetGpuInstanceById, gpu(), 2),
    ):
        assert refusal(call, *arguments) == pynvml.NVML_ERROR_NO_PERMISSION
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [1, 1]
    assert pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(), 0)).endswith("3g.40gb")


def test_drivers_that_are_old_not_loaded_or_not_installed(standin):
    machine = standin(A100)
    machine.configure(mig_functions=False, driver_version="418.87")
    assert pynvml.nvmlSystemGetDriverVersion() == "418.87"
    assert refusal(pynvml.nvmlDeviceGetMigMode, gpu()) == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    pynvml.nvmlShutdown()
    machine.configure(driver_loaded=False)
    assert refusal(pynvml.nvmlInit) == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    assert smi(machine, "-L")[0] == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    machine.configure(driver_loaded=True)
    machine.fail("nvmlInit*", code=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    assert refusal(pynvml.nvmlInit) == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    done = run(machine, "nvmlInit()", library=False)
    assert "NVMLError_LibraryNotFound" in done.stderr


def test_a_state_file_that_is_none(standin, tmp_path):
    machine = standin(A100, init=False)
    machine.path.write_bytes(b"none")
    assert refusal(pynvml.nvmlInit) == pynvml.NVML_ERROR_UNKNOWN


# -- the log -----------------------------------------------------------------------------------------------------------


def test_the_log_tells_what_was_touched(standin):
    machine = standin(Card(A100, mig=True, layout=[("3g.40gb", 4)]))
    machine.clear_log()
    instance = create(gpu(), 19, 1, 1)
    refusal(create, gpu(), 9, 4, 4)
    pynvml.nvmlGpuInstanceDestroy(instance)
    changes = [(call.function, call.result, call.gpu, call.gi, call.profile, call.start) for call in machine.changes()]
    assert changes == [
        ("nvmlDeviceCreateGpuInstanceWithPlacement", 0, 0, 8, 19, 1),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", 23, 0, -1, 9, 4),
        ("nvmlGpuInstanceDestroy", 0, 0, 8, 19, 1),
    ]
    assert machine.counts()["nvmlDeviceGetHandleByIndex_v2"] == 2
    assert {call.function for call in machine.reads()} == {"nvmlDeviceGetHandleByIndex_v2"}


def test_the_machine_can_be_disturbed_from_outside(standin):
    machine = standin(Card(A100, mig=True, layout=[("3g.40gb", 4)]))
    machine.put(0, "1g.10gb", 0, compute=False)
    machine.take(0, 4)
    [instance] = machine.instances(0)
    assert (instance.profile, instance.start, instance.compute) == ("1g.10gb", 0, ())
    assert pynvml.nvmlGpuInstanceGetInfo(pynvml.nvmlDeviceGetGpuInstanceById(gpu(), 7)).placement.start == 0
    machine.reset(0)
    assert not machine.placed(0)
    machine.set_mode(0, current=False, pending=True)
    assert pynvml.nvmlDeviceGetMigMode(gpu()) == [0, 1]


# -- nvidia-smi --------------------------------------------------------------------------------------------------------


def test_nvidia_smi_makes_and_lists_instances(tmp_path):
    machine = Machine(tmp_path / "machine", [A100, T4])
    assert smi(machine, "-i", "0", "-mig", "1") == (0, "Enabled MIG Mode for GPU 00000000:07:00.0\nAll done.\n")
    code, text = smi(machine, "mig", "-i", "0", "-cgi", "9:4,1g.10gb:1", "-C")
    assert (code, text.splitlines()) == (
        0,
        [
            "Successfully created GPU instance ID  2 on GPU  0 using profile MIG 3g.40gb (ID  9)",
            "Successfully created compute instance ID  0 on GPU  0 GPU instance ID  2 using profile MIG 3g.40gb (ID  2)",
            "Successfully created GPU instance ID  8 on GPU  0 using profile MIG 1g.10gb (ID 19)",
            "Successfully created compute instance ID  0 on GPU  0 GPU instance ID  8 using profile MIG 1g.10gb (ID  0)",
        ],
    )
    assert machine.placed(0) == {("3g.40gb", 4), ("1g.10gb", 1)}
    for listing in ("-lgi", "-lci", "-lgip"):
        rows = smi(machine, "mig", listing)[1].splitlines()
        assert len({len(row) for row in rows}) == 1, rows
    assert "|   0  MIG 3g.40gb           9        2          4:4       |" in smi(machine, "mig", "-lgi")[1].splitlines()
    listed = smi(machine, "-L")[1].splitlines()
    assert [line.split(":")[0].split("(")[0].split() for line in listed] == [
        ["GPU", "0"], ["MIG", "3g.40gb", "Device", "0"], ["MIG", "1g.10gb", "Device", "1"], ["GPU", "1"],
    ]  # fmt: skip
    code, text = smi(machine, "mig", "-i", "0", "-dgi", "-gi", "2")
    assert (code, text.splitlines()) == (
        19,
        [
            "Unable to destroy GPU instance ID  2 from GPU  0: In use by another client",
            "Failed to destroy GPU instances: In use by another client",
        ],
    )
    assert smi(machine, "mig", "-dci")[0] == smi(machine, "mig", "-dgi")[0] == 0
    assert smi(machine, "mig", "-lgi") == (6, "No GPU instances found: Not Found\n")


def test_nvidia_smi_fails_as_the_real_one(tmp_path):
    machine = Machine(tmp_path / "machine", [Card(A100, mig=True), T4])
    code, text = smi(machine, "mig", "-i", "0", "-cgi", "19,19,14,9")
    assert code == 23
    assert text.splitlines()[3:] == [
        "Unable to create a GPU instance on GPU  0 using profile 9: Insufficient Resources",
        "Failed to create GPU instances: Insufficient Resources",
    ]
    assert smi(machine, "mig", "-i", "0", "-cgi", "3g.20gb")[0] == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert smi(machine, "mig", "-i", "1", "-lgi") == (6, "No MIG-enabled devices found.\n")
    assert smi(machine, "-i", "1", "-mig", "1")[0] == pynvml.NVML_ERROR_NOT_SUPPORTED
    machine.run_process(9, 0)
    code, text = smi(machine, "-i", "0", "-mig", "0")
    assert code == 0
    assert text.startswith("Warning: MIG mode is in pending disable state for GPU 00000000:07:00.0:In use by another client\n")
    assert smi(machine, "--gpu-reset", "-i", "0")[0] == pynvml.NVML_ERROR_IN_USE


def test_nvidia_smi_lists_placements_and_answers_queries(tmp_path):
    machine = Machine(tmp_path / "machine", [A100, Card(A30, mig=True)])
    assert smi(machine, "mig", "-i", "0", "-lgipp")[1].splitlines()[:4] == [
        "GPU  0 Profile ID 19 Placements: {0,1,2,3,4,5,6}:1",
        "GPU  0 Profile ID 14 Placements: {0,2,4}:2",
        "GPU  0 Profile ID  9 Placements: {0,4}:4",
        "GPU  0 Profile ID  5 Placement : {0}:4",
    ]
    assert smi(machine, "-i", machine.uuid(1), "--query-gpu=index,mig.mode.current,pci.device_id", "--format=csv,noheader") == (
        0,
        "1, Enabled, 0x20B710DE\n",
    )
    assert "|   1  MIG 4g.24gb          0     1/1" in smi(machine, "mig", "-lgip")[1]


# -- the library -------------------------------------------------------------------------------------------------------


def test_both_sides_of_the_state_file_agree():
    assert build().load().standinLayout().decode() == state.layout()


def test_everything_that_pynvml_asks_for_about_mig_is_there():
    source = Path(pynvml.__file__).read_text(encoding="utf-8")
    asked = {
        name.split('"')[0]
        for name in source.split('_nvmlGetFunctionPointer("')[1:]
        if any(word in name.split('"')[0] for word in ("Mig", "GpuInstance", "ComputeInstance", "RunningProcesses_v"))
    }
    others = ("Vgpu", "Gpm", "Utilization", "Scheduler")
    wanted = {name for name in asked if not any(word in name for word in others)}
    library = build().load()
    assert len(wanted) > 25
    assert not [name for name in sorted(wanted) if not hasattr(library, name)]
