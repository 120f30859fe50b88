"""GPU models as the driver would describe them, from the catalogue's records."""

from __future__ import annotations

from nvml import state
from partitioner import catalog
from partitioner.catalog.records import ComputeInstanceRecord, MigProfileRecord

ARCHITECTURES = {"Volta": 5, "Turing": 6, "Ampere": 7, "Ada": 8, "Hopper": 9, "Blackwell": 10}
_BY_SLICES = {1: 0, 2: 1, 3: 2, 4: 3, 7: 4, 8: 5, 6: 6}  # NVML_COMPUTE_INSTANCE_PROFILE_n_SLICE


def profile_ids(name: str) -> dict[str, int]:
    """Profile name to the driver's id; where the catalogue has none, 100 and more in the order of the catalogue."""
    mig = catalog.gpu(name).record.mig
    profiles = mig.profiles if mig else ()
    return {p.name: 100 + n if p.gi_profile_id is None else p.gi_profile_id for n, p in enumerate(profiles)}


def write_model(model: state.Model, name: str) -> None:
    """Fill in what the driver knows of a GPU model of the catalogue."""
    record = catalog.gpu(name).record
    model.name = (record.product_names[0] if record.product_names else f"NVIDIA {name}").encode()[:95]
    model.pci_device_id = int(record.pci_device_ids[0], 16) if record.pci_device_ids else 0x2F00 + sum(name.encode()) % 256
    model.architecture = next((n for word, n in ARCHITECTURES.items() if record.architecture.startswith(word)), 0xFF)
    model.memory_mib = record.memory_gib * 1024
    model.mode_survives_reboot = record.architecture.startswith("Ampere")
    mig = record.mig
    if mig is None:
        return
    model.units, model.max_instances = mig.memory_slices, mig.max_gpu_instances
    model.max_compute = mig.instance_limits.get("compute", state.UNLIMITED)
    model.max_gfx = mig.instance_limits.get("gfx", state.UNLIMITED)
    for index, engine in enumerate(state.ENGINES):
        model.engine_totals[index] = mig.engine_totals.get(engine, state.UNLIMITED)
    ids = profile_ids(name)
    enumerators = _enumerators(mig.profiles)
    model.profile_count = len(mig.profiles)
    for target, profile in zip(model.profiles, mig.profiles, strict=False):
        _write_profile(target, profile, ids[profile.name], enumerators[profile.name])


def _enumerators(profiles: tuple[MigProfileRecord, ...]) -> dict[str, int]:
    """Names to NVML's enumerators; those without one get a free one."""
    taken = {profile.nvml_profile for profile in profiles}
    free = (n for n in range(0x12) if n not in taken)
    return {p.name: next(free) if p.nvml_profile is None else p.nvml_profile for p in profiles}


def _write_profile(target: state.Profile, profile: MigProfileRecord, profile_id: int, enumerator: int) -> None:
    target.name = profile.name.encode()
    target.nvml_profile, target.id = enumerator, profile_id
    target.slices, target.extent, target.max_count = profile.compute_slices, profile.extent, profile.max_count
    target.multiprocessors = profile.multiprocessors or 16 * profile.compute_slices
    target.copy_engines = profile.copy_engines or profile.compute_slices
    target.memory_mib = profile.memory_mib
    target.gfx = "gfx" in profile.attributes
    for index, engine in enumerate(state.ENGINES):
        target.engines[index] = profile.engines.get(engine, 0)
    target.start_count = len(profile.starts)
    target.starts[: len(profile.starts)] = profile.starts
    cis = profile.compute_instances or (
        ComputeInstanceRecord(compute_slices=profile.compute_slices, starts=(0,), max_count=1, default=True),
    )
    target.compute_profile_count = len(cis)
    for compute, ci in zip(target.compute_profiles, cis, strict=False):
        compute.nvml_profile = _BY_SLICES[ci.compute_slices]
        compute.id = compute.nvml_profile if ci.ci_profile_id is None else ci.ci_profile_id
        compute.slices = compute.extent = ci.compute_slices
        compute.max_count = ci.max_count
        compute.multiprocessors = target.multiprocessors * ci.compute_slices // profile.compute_slices
        compute.start_count = len(ci.starts)
        compute.starts[: len(ci.starts)] = ci.starts
