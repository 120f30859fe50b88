"""The GPUs the product knows: one TOML file for each model, with sources; look-up by any name in use.

`names` lists them, `gpu` looks one up, `add` reads a user's own file, `profile_by_id` is the look-up a driver needs;
`add_derived` lets a model that was made from a driver's answers be looked up, without being listed.
This package must not know workloads, fleets or plans.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from importlib import resources

from pydantic import ValidationError

from partitioner.catalog.model import GpuModel
from partitioner.catalog.naming import driver_name, fold_gpu, parse_pci_device_id
from partitioner.catalog.records import GpuRecord
from partitioner.documents import Document, parse, problems_of, read
from partitioner.errors import Problem, SpecError, did_you_mean
from partitioner.geometry import Profile

__all__ = [
    "GpuModel",
    "add",
    "add_derived",
    "check",
    "check_modes",
    "driver_name",
    "gpu",
    "names",
    "profile_by_id",
    "profile_exists",
]


@cache
def _models() -> dict[str, GpuModel]:
    """All known models by name; `add` puts users' own models in."""
    found = {}
    for file in sorted(resources.files(__name__).joinpath("gpus").iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".toml"):
            model = _model(parse(file.read_text(encoding="utf-8"), origin=file.name, syntax="toml"))
            found[model.name] = model
    return found


def _model(document: Document) -> GpuModel:
    try:
        record = GpuRecord.model_validate(document.data)
    except ValidationError as error:
        fields = sorted(_field_names())
        raise SpecError([document.problem(*problem) for problem in problems_of(error, fields)]) from error
    try:
        return GpuModel(record)
    except SpecError as error:
        raise SpecError([Problem(problem.message, document.origin) for problem in error.problems]) from error


def _field_names() -> set[str]:
    from partitioner.catalog import records

    kinds = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, records.Record)]
    return {name for kind in kinds for name in kind.model_fields}


_derived: dict[str, GpuModel] = {}  # by exact name; they take part in no other look-up


def names() -> tuple[str, ...]:
    """Return the names of all GPU models known, sorted.

    Examples
    --------
    >>> "A100-80GB" in names()
    True
    """
    return tuple(sorted(_models()))


def check_modes(modes: Sequence[str]) -> tuple[str, ...]:
    """Return modes or families of modes (``mig``, ``vgpu``, ``vgpu-equal``, ``vgpu-equal-8``, ``vgpu-mixed``, ``whole``).

    Raises
    ------
    SpecError
        One is no mode of any GPU, or there is none; names the near matches.
    """
    wanted = (modes,) if isinstance(modes, str) else tuple(modes)
    families = {mode for model in _models().values() for mode in model.modes} | {"vgpu", "vgpu-equal"}
    for mode in wanted:
        if mode not in families:
            hint = did_you_mean(str(mode), sorted(families)) or "modes are mig, vgpu, vgpu-equal-<GB>, vgpu-mixed, whole"
            raise SpecError(f"unknown mode {mode!r}; {hint}")
    if not wanted:
        raise SpecError("modes is empty; give at least one of mig, vgpu, whole, or None for all")
    return wanted


@cache
def _spellings(_count: int) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for model in _models().values():
        record = model.record
        products = [board.product for board in record.boards]
        for spelling in (record.name, *record.aliases, *record.product_names, *products):
            found.setdefault(fold_gpu(spelling), {})[record.name] = None
    return {spelling: tuple(models) for spelling, models in found.items()}


def gpu(name: str | int | GpuModel) -> GpuModel:
    """Return the GPU model that a name means.

    Parameters
    ----------
    name : name in the catalogue (``A100-80GB``), product name as the driver prints it (``NVIDIA A100-SXM4-80GB``),
        alias (``A100D``) or PCI device id (``0x20B2``, ``0x20B210DE``, ``10DE:20B2`` or the integer).

    Raises
    ------
    SpecError
        Nothing or more than one model is meant; names the near matches.

    Examples
    --------
    >>> gpu("NVIDIA A100-SXM4-80GB").name, gpu("0x1EB8").name
    ('A100-80GB', 'T4')
    """
    if isinstance(name, GpuModel):
        return name
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise SpecError(f"GPU {name!r} is not a name or a PCI device id; write e.g. 'A100-80GB'")
    models = _models()
    if name in models:
        return models[str(name)]
    if name in _derived:
        return _derived[str(name)]
    device_id = parse_pci_device_id(name)
    if device_id is not None:
        return models[
            _one(
                f"PCI device id {device_id:#06X}".replace("X", "x", 1),
                [m.name for m in models.values() if device_id in m.pci_device_ids],
            )
        ]
    if isinstance(name, int):
        raise SpecError(f"GPU {name!r}: not a PCI device id; write e.g. 0x20B2")
    meant = _spellings(len(models)).get(fold_gpu(name), ())
    if len(meant) > 1:  # NVIDIA A100X has 80 GB, vGPU names call the A100-SXM4-40GB A100X: a product's full name wins
        meant = tuple(other for other in meant if name in models[other].record.product_names) or meant
    if not meant:
        begin = [n for n in models if name.strip() and fold_gpu(n).startswith(fold_gpu(name) + "-")]
        if begin:
            return models[_one(f"GPU {name!r}", begin)]
        known = {s: s for m in models.values() for s in (m.name, *m.record.product_names)}
        hint = did_you_mean(name, known) or "`partitioner catalog list` names all; add your own with --catalog FILE"
        raise SpecError(f"unknown GPU {name!r}; {hint}")
    return models[_one(f"GPU {name!r}", list(meant))]


def _one(what: str, found: list[str]) -> str:
    if not found:
        raise SpecError(f"{what} is not in the catalogue; add it with your own TOML file (--catalog FILE)")
    if len(found) > 1:
        raise SpecError(f"{what} is ambiguous; name one of {', '.join(sorted(found))}")
    return found[0]


def profile_by_id(pci_device_id: str | int, gi_profile_id: int) -> tuple[GpuModel, Profile]:
    """Return the MIG profile with a driver's GPU instance profile id on the GPU with a PCI device id.

    Names of profiles change with the driver and mean different ids on different GPUs; this pair does not.

    Raises
    ------
    SpecError
        No such GPU, no MIG on it, or no such profile id.

    Examples
    --------
    >>> profile_by_id("0x20B0", 15)[1].name, profile_by_id("0x20B2", 19)[1].name
    ('1g.10gb', '1g.10gb')
    """
    model = gpu(pci_device_id)
    profiles = model.geometry("mig").profiles
    for profile in profiles:
        if profile.gi_profile_id == gi_profile_id:
            return model, profile
    ids = ", ".join(f"{p.gi_profile_id} ({p.name})" for p in profiles if p.gi_profile_id is not None)
    raise SpecError(f"{model.name}: no GPU instance profile id {gi_profile_id}; ids are {ids or 'not known'}")


def profile_exists(spelling: str) -> tuple[str, ...]:
    """Return the names of all GPU models that have a profile spelled so."""
    return tuple(name for name, model in _models().items() if model.find(spelling))


def check(path: str | os.PathLike[str]) -> GpuModel:
    """Read a user's GPU file and check it, without adding it to the catalogue.

    Raises
    ------
    SpecError
        All problems of the file, with their lines.
    """
    document = read(path)
    if document.syntax != "toml":
        raise SpecError(Problem("a GPU is described in a .toml file", document.origin))
    return _model(document)


def add(path: str | os.PathLike[str]) -> GpuModel:
    """Read a user's GPU file, check it, and add it to the catalogue of this process.

    Raises
    ------
    SpecError
        The file is not valid, or one of its names is taken by another GPU; then nothing is added.
    """
    model = check(path)
    models = _models()
    if model.name in models and models[model.name].record != model.record:
        raise SpecError(Problem(f"GPU name {model.name!r} is taken; choose another", os.fspath(path), field="name"))
    taken = _spellings(len(models))
    products = [board.product for board in model.record.boards]
    for spelling in (model.name, *model.record.aliases, *model.record.product_names, *products):
        others = [name for name in taken.get(fold_gpu(spelling), ()) if name != model.name]
        if others:
            raise SpecError(Problem(f"{spelling!r} already means {others[0]}; choose another name", os.fspath(path)))
    models[model.name] = model
    _spellings.cache_clear()
    return model


def add_derived(model: GpuModel) -> GpuModel:
    """Let a model that is in no file be looked up by its exact name in this process; nothing else finds or lists it.

    Raises
    ------
    SpecError
        The name is taken by a GPU with another geometry.
    """
    known = _models().get(model.name) or _derived.setdefault(model.name, model)
    if known.record.mig != model.record.mig:
        raise SpecError(f"GPU name {model.name!r} is taken; choose another")
    return known
