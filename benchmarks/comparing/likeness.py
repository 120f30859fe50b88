"""Whether results may be compared, and how each is then called. Knows how something was measured, no figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import groupby

from benchmarks.errors import IncomparableError
from benchmarks.results.values import Metadata, Result
from partitioner.errors import SpecError, did_you_mean

MAY_DIFFER = ("scenario", "profiles", "geometry", "seed")
"""Fields in which results that are compared differ, or may: what is compared, and the order of arrivals."""

ALIKE = tuple(field.name for field in fields(Metadata) if field.name not in MAY_DIFFER)
"""Fields that have to be the same, where they are not allowed to differ by name."""

_SAME_LOAD = ("gpu", "model", "mode", "servers", "device", "engine", "batch", "concurrency")
"""Fields of which instances that are held against one another share all, whatever is allowed to differ."""

_NOWHERE = "not told"


def check_alike(results: Sequence[Result], allow: Sequence[str]) -> None:
    """Refuse results that were not measured alike.

    Parameters
    ----------
    results : what is to be compared.
    allow : fields that may differ, of `ALIKE`; one name of a field that has several as ``software.driver``.

    Raises
    ------
    IncomparableError
        They differ in other fields; says in which, with the values.
    SpecError
        There is no such field.
    """
    for name in allow:
        if name.split(".")[0] not in ALIKE:
            raise SpecError(f"allow {name!r} - no field that has to be the same; {did_you_mean(name, ALIKE)}")
    found = list(_differences([result.metadata for result in results], allow))
    if found:
        names = ", ".join(dict.fromkeys(line.split(":")[0] for line in found))
        raise IncomparableError(
            f"{len(results)} results - not measured alike; measure them alike, or allow what may differ, with the allowance"
            f" said wherever the comparison is shown (allow={names})",
            found,
        )


def _differences(metadata: Sequence[Metadata], allow: Sequence[str]) -> Iterator[str]:
    scenarios = [how.scenario for how in metadata]
    for name in ALIKE:
        values = [getattr(how, name) for how in metadata]
        if not isinstance(values[0], Mapping):
            if name not in allow and len(set(values)) > 1:
                yield f"{name}: {_listed(scenarios, values)}"
            continue
        for key in dict.fromkeys(key for value in values for key in value) if name not in allow else ():
            entries = [value.get(key, _NOWHERE) for value in values]
            if f"{name}.{key}" not in allow and any(entry != entries[0] for entry in entries):
                yield f"{name}.{key}: {_listed(scenarios, entries)}"


def _listed(scenarios: Sequence[str], values: Sequence[object]) -> str:
    """Return ``'2.51' in 7g, 1g; '2.52' in 2g``."""
    by_value: dict[str, list[str]] = {}
    for scenario, value in zip(scenarios, values, strict=True):
        by_value.setdefault(value if value == _NOWHERE else repr(value), []).append(scenario)
    return "; ".join(f"{value} in {', '.join(dict.fromkeys(where))}" for value, where in by_value.items())


def groups_of(results: Mapping[str, Result]) -> tuple[Mapping[str, Result], ...]:
    """Return results by name in groups that answered the same load, so that instances can be held against one another."""
    groups: dict[tuple[object, ...], dict[str, Result]] = {}
    for name, result in results.items():
        key = tuple(getattr(result.metadata, field) for field in _SAME_LOAD)
        groups.setdefault(key, {})[name] = result
    return tuple(groups.values())


def names_of(results: Sequence[Result], allow: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each result: its scenario, with what else tells it from others where a scenario stands twice.

    Raises
    ------
    IncomparableError
        Two results of one scenario differ in nothing that was allowed to differ.
    """
    names = [result.metadata.scenario for result in results]
    if len(set(names)) < len(names):
        words = [_told_apart(result.metadata, [other.metadata for other in results], allow) for result in results]
        names = [f"{name} ({', '.join(told)})" if told else name for name, told in zip(names, words, strict=True)]
    repeated = [name for name, group in groupby(sorted(names)) if len(list(group)) > 1]
    if repeated:
        raise IncomparableError(
            f"{', '.join(repeated)} - stands more than once among {len(results)} results; leave all but one out, or measure"
            " more repeats in one run"
        )
    return tuple(names)


def _told_apart(how: Metadata, others: Sequence[Metadata], allow: Sequence[str]) -> list[str]:
    words = []
    for name in dict.fromkeys(entry.split(".")[0] for entry in allow):
        value = getattr(how, name)
        if all(getattr(other, name) == value for other in others):
            continue
        if not isinstance(value, Mapping):
            words.append(f"{name} {value}" if isinstance(value, int) else str(value))
            continue
        differing = [key for key in value if any(getattr(other, name).get(key) != value[key] for other in others)]
        words += differing if name == "host" else [f"{key} {value[key]}" for key in differing]
    return words
