"""The state file as Python sees it: the structs of src/state.h, field by field."""

from __future__ import annotations

from ctypes import Structure, c_char, c_int32, c_uint32, sizeof

MAGIC = 0x4E564D32
MODELS, GPUS, PROFILES, STARTS, COMPUTE_PROFILES = 48, 64, 24, 16, 10
GPU_INSTANCES, COMPUTE_INSTANCES, PROCESSES, FAULTS, FUNCTIONS, LOG = 16, 8, 128, 32, 128, 4096
ENGINES = ("decoders", "encoders", "jpeg", "ofa")
UNLIMITED, NONE = 0xFFFF, -1


def _numbers(names: str) -> list[tuple[str, type[c_int32]]]:
    return [(name, c_int32) for name in names.split()]


class ComputeProfile(Structure):
    _fields_ = [*_numbers("nvml_profile id slices extent max_count multiprocessors start_count"), ("starts", c_int32 * STARTS)]


class Profile(Structure):
    _fields_ = [
        ("name", c_char * 64),
        *_numbers("nvml_profile id slices extent max_count multiprocessors copy_engines memory_mib capabilities gfx"),
        ("engines", c_int32 * len(ENGINES)),
        ("start_count", c_int32),
        ("starts", c_int32 * STARTS),
        ("compute_profile_count", c_int32),
        ("compute_profiles", ComputeProfile * COMPUTE_PROFILES),
    ]


class Model(Structure):
    _fields_ = [
        ("name", c_char * 96),
        *_numbers("pci_device_id architecture memory_mib units max_instances max_compute max_gfx mode_survives_reboot"),
        ("engine_totals", c_int32 * len(ENGINES)),
        ("profile_count", c_int32),
        ("profiles", Profile * PROFILES),
    ]


class ComputeInstance(Structure):
    _fields_ = _numbers("used generation id profile start")


class GpuInstance(Structure):
    _fields_ = [*_numbers("used generation id profile start"), ("compute", ComputeInstance * COMPUTE_INSTANCES)]


class Gpu(Structure):
    _fields_ = [
        ("uuid", c_char * 80),
        ("serial", c_char * 32),
        *_numbers("model domain bus device minor mode pending activation lost persistence ecc"),
        ("instances", GpuInstance * GPU_INSTANCES),
    ]


class Process(Structure):
    _fields_ = [*_numbers("used pid gpu gi ci kind memory_mib only_while_alive"), ("name", c_char * 96)]


class Fault(Structure):
    _fields_ = [("function", c_char * 64), *_numbers("used gpu skip times action value hits")]


class Entry(Structure):
    _fields_ = _numbers("sequence pid function result gpu gi ci profile start")


class Function(Structure):
    _fields_ = [("name", c_char * 64), *_numbers("calls changes")]


class State(Structure):
    _fields_ = [
        ("magic", c_uint32),
        ("size", c_uint32),
        ("driver_version", c_char * 80),
        ("nvml_version", c_char * 80),
        *_numbers(
            "cuda_version without_mig unprivileged driver_loaded model_count gpu_count generation boots"
            " function_count read_count change_count"
        ),
        ("functions", Function * FUNCTIONS),
        ("faults", Fault * FAULTS),
        ("processes", Process * PROCESSES),
        ("gpus", Gpu * GPUS),
        ("models", Model * MODELS),
        ("reads", Entry * LOG),
        ("changes", Entry * LOG),
    ]


def layout() -> str:
    """Sizes of the structs, in the words of the library's `standinLayout`."""
    kinds = {
        "state": State, "model": Model, "profile": Profile, "compute profile": ComputeProfile,
        "gpu": Gpu, "process": Process, "fault": Fault, "entry": Entry,
    }  # fmt: skip
    return ", ".join(f"{name} {sizeof(kind)}" for name, kind in kinds.items())
