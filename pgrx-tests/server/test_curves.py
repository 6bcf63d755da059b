"""The benchmark of cost curves: exponents of known costs, and that every curve has sizes that tell one."""

from __future__ import annotations

import math
import pathlib
import re
import subprocess
import sys

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    for name in [name for name, module in sys.modules.items() if str(BENCH) in (getattr(module, "__file__", None) or "")]:
        del sys.modules[name]


@pytest.mark.parametrize("power", [0, 0.5, 1, 1.3, 2])
def test_the_exponent_of_a_power_is_that_power(bench: None, power: float) -> None:
    from growth import exponent

    sizes = [1000.0, 4000.0, 16_000.0, 50_000.0]
    assert exponent(sizes, [3e-6 * size**power for size in sizes]) == pytest.approx(power, abs=1e-9)


def test_the_exponent_is_that_of_least_squares(bench: None) -> None:
    from growth import exponent
    from numpy import log, polyfit

    sizes, costs = [10.0, 30.0, 70.0, 250.0, 900.0], [0.4, 0.9, 3.1, 8.2, 47.0]
    assert exponent(sizes, costs) == pytest.approx(polyfit(log(sizes), log(costs), 1)[0])


def test_no_exponent_without_costs_or_sizes(bench: None) -> None:
    from growth import exponent

    assert math.isnan(exponent([1.0, 2.0], [0.0, 1.0]))
    assert math.isnan(exponent([2.0, 2.0], [1.0, 3.0]))


def test_a_row_has_costs_with_units_and_the_exponent_of_the_last_two(bench: None) -> None:
    from growth import Curve, rows

    curve = Curve("lines", "lines", (1, 2), (1, 2), lambda server, sizes: iter(()))
    points = [(10, {"read [s]": 2e-6, "kept [B]": 5e6}), (100, {"read [s]": 2e-5, "kept [B]": 5e6}), (1000, {"read [s]": 2e-3, "kept [B]": 5e6})]
    assert rows(curve, points) == [
        ("lines", "read", "10 … 1,000 lines", "2.00 us", "2.00 ms", "1.50", "2.00"),
        ("lines", "kept", "10 … 1,000 lines", "5.00 MB", "5.00 MB", "0.00", "0.00"),
    ]


def test_every_curve_has_four_sizes_that_grow_steadily() -> None:
    """As the command lists them."""
    command = [sys.executable, str(BENCH / "curves.py"), "--url", "", "--scratch", "", "--list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names = [line.partition(":")[0] for line in lines]
    assert len(set(names)) == len(names) > 10
    for line in lines:
        for part in line.partition(":")[2].split("; --full"):
            sizes = [int(number.replace(",", "")) for number in re.findall(r"[0-9]+(?:,[0-9]{3})*", part)]
            assert len(sizes) >= 4, line
            assert all(1.9 < larger / smaller < 10.1 for smaller, larger in zip(sizes, sizes[1:])), line
