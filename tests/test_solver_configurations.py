"""Shapes, maximal configurations, prices, and meeting the bound they give."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitioner import catalog
from partitioner.solver.configurations import (
    Prices,
    all_prices,
    dominates,
    maximal_configurations,
    packed_alone,
    peel,
    shapes,
)

SIX = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
MIG = [name for name in catalog.names() if "mig" in catalog.gpu(name).modes]


def test_types_of_one_size_are_one_shape_unless_their_series_do_not_mix() -> None:
    assert [[p.name for p in s.profiles] for s in shapes("T4", "vgpu-equal-4")] == [["T4-4C"], ["T4-4Q", "T4-4A"]]


def test_profiles_limited_in_number_are_shapes_of_their_own() -> None:
    assert [s.name for s in shapes("A100-80GB", "mig")][:2] == ["1g.10gb", "1g.10gb+me"]


def test_the_a100_has_28_maximal_configurations_of_its_six_plain_profiles() -> None:
    assert len(maximal_configurations("A100-80GB", "mig", SIX)) == 28


@pytest.mark.parametrize("name", catalog.names())
def test_maximal_configurations_fit_and_nothing_more_fits(name: str) -> None:
    model = catalog.gpu(name)
    for mode in model.modes:
        names = tuple(s.name for s in shapes(name, mode))[:7]
        geometry = model.geometry(mode)
        for vector in maximal_configurations(name, mode, names)[:200]:
            assert geometry.layout_of(dict(zip(names, vector, strict=True))) is not None
            for i in range(len(names)):
                more = [n + (i == j) for j, n in enumerate(vector)]
                assert geometry.layout_of(dict(zip(names, more, strict=True))) is None


@pytest.mark.parametrize(("name", "mode"), [("A30-24GB", "vgpu-mixed"), ("A2", "vgpu-mixed"), ("A100-40GB", "vgpu-mixed")])
def test_listing_by_dominance_agrees_with_listing_all(name: str, mode: str) -> None:
    geometry = catalog.gpu(name).geometry(mode)
    names = tuple(s.name for s in shapes(name, mode))[:5]
    every = {tuple(c.get(n, 0) for n in names) for c in geometry.subset(names).configurations(maximal=True)}
    assert set(maximal_configurations(name, mode, names)) == every


def test_the_prices_of_the_a100_are_those_of_the_closed_form() -> None:
    prices = all_prices(maximal_configurations("A100-80GB", "mig", SIX))
    assert prices is not None
    assert {(p.numerators, p.denominator) for p in prices} == {
        ((1, 2, 2, 4, 4, 8), 8),
        ((1, 1, 2, 3, 4, 7), 7),
        ((0, 0, 1, 1, 2, 3), 3),
        ((0, 0, 0, 0, 1, 1), 1),
    }


@pytest.mark.parametrize("name", MIG)
def test_no_configuration_costs_more_than_one_gpu_and_each_price_is_tight(name: str) -> None:
    names = tuple(s.name for s in shapes(name, "mig"))[:7]
    configurations = maximal_configurations(name, "mig", names)
    prices = all_prices(configurations)
    assert prices
    for price in prices:
        costs = [sum(n * c for n, c in zip(price.numerators, vector, strict=True)) for vector in configurations]
        assert max(costs) == price.denominator


@pytest.mark.parametrize("name", MIG)
def test_every_small_demand_meets_its_bound(name: str) -> None:
    """Integer round-up: checked for all demands up to 2 of each shape, which covers every class of them up to 2 GPUs."""
    names = tuple(s.name for s in shapes(name, "mig"))[:6]
    configurations = maximal_configurations(name, "mig", names)
    prices = all_prices(configurations)
    assert prices is not None
    for demand in itertools.product(range(3), repeat=len(names)):
        taken = peel(configurations, prices, demand)
        assert taken is not None, demand
        assert sum(times for times, _ in taken) == max(price.bound(demand) for price in prices)
        held = [sum(times * vector[i] for times, vector in taken) for i in range(len(names))]
        assert all(h >= d for h, d in zip(held, demand, strict=True))


@given(st.lists(st.integers(0, 10**6), min_size=6, max_size=6))
def test_large_demands_meet_their_bound(demand: list[int]) -> None:
    configurations = maximal_configurations("A100-80GB", "mig", SIX)
    prices = all_prices(configurations)
    assert prices is not None
    taken = peel(configurations, prices, demand)
    assert taken is not None
    assert sum(times for times, _ in taken) == max(price.bound(demand) for price in prices)


def test_peel_gives_up_where_the_bound_cannot_be_met() -> None:
    """Three shapes of which any two share a GPU: 1.5 GPUs by price, 2 by bound, met; with a wrong price it is not."""
    pairs = ((1, 1, 0), (1, 0, 1), (0, 1, 1))
    prices = all_prices(pairs)
    assert prices is not None
    assert peel(pairs, prices, (1, 1, 1)) is not None
    assert peel(pairs, (Prices((1, 1, 1), 3),), (1, 1, 1)) is None


def test_prices_of_pairs() -> None:
    prices = all_prices(((1, 1, 0), (1, 0, 1), (0, 1, 1)))
    assert prices is not None
    assert Fraction(1, 2) in {Fraction(p.numerators[0], p.denominator) for p in prices}


def test_a_small_profile_stands_in_for_a_large_one_only_where_it_always_fits() -> None:
    geometry = catalog.gpu("A100-80GB").geometry("mig")
    profile = geometry.profile
    assert dominates(geometry, profile("1g.20gb"), profile("2g.20gb"))
    assert not dominates(geometry, profile("2g.20gb"), profile("1g.20gb"))  # 1g.20gb may start at 6
    assert not dominates(geometry, profile("1g.10gb+me"), profile("2g.20gb"))  # only one fits on a GPU
    assert packed_alone(profile("3g.40gb")) == 2
