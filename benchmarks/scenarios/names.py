"""Names of instances and of configurations in short. Knows the catalogue's profiles only."""

from __future__ import annotations

from collections.abc import Iterable

from partitioner import catalog

_SPELLED_OUT = 3  # so many equal slices stand one by one in a name, as in Table 2's 2g+2g+2g+1g; more are counted


def named(profiles: Iterable[str]) -> tuple[str, ...]:
    """Return a unique name for each of some profiles, in their order.

    Examples
    --------
    >>> named(["2g.20gb", "2g.20gb", "1g.10gb"])
    ('2g.20gb', '2g.20gb#2', '1g.10gb')
    """
    seen: dict[str, int] = {}
    names = []
    for profile in profiles:
        seen[profile] = seen.get(profile, 0) + 1
        names.append(profile if seen[profile] == 1 else f"{profile}#{seen[profile]}")
    return tuple(names)


def short_name(gpu: str, profiles: Iterable[str]) -> str:
    """Return the name of a configuration in short, largest profiles first.

    Parameters
    ----------
    gpu : name of the GPU model.
    profiles : as the catalogue spells them.

    Examples
    --------
    >>> short_name("A100-80GB", ["1g.10gb"] * 7), short_name("A100-80GB", ["1g.20gb", "3g.40gb", "1g.20gb"])
    ('7x1g', '3g+2x1g.20gb')
    """
    model = catalog.gpu(gpu)
    given = list(profiles)
    known = {name: model.profile(name) for name in given}
    terms = []
    for name in sorted(known, key=lambda name: (-known[name].compute_slices, -known[name].memory_mib, name)):
        count, slices = given.count(name), f"{known[name].compute_slices}g"
        found = model.find(slices)
        short = bool(found) and found[0][1] is known[name]
        term = slices if short else name
        terms += [term] * count if count <= (_SPELLED_OUT if short else 1) else [f"{count}x{term}"]
    return "+".join(terms)
