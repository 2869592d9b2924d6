"""Plans: what is chosen within a budget, and that a fit keeps to it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toptune.kernel.selection.planning import (
    MemoryBudgetError,
    Rates,
    available_memory,
    make_plan,
    measure_rates,
    predicted_seconds,
)

GIGABYTE = 10**9


@pytest.mark.parametrize(
    ("n", "options", "memory", "solver", "m", "keep"),
    [
        (500, {}, GIGABYTE, "exact", 500, True),
        (3000, {}, 4 * GIGABYTE, "exact", 3000, True),
        (20_000, {}, 8 * GIGABYTE, "direct", 3000, True),
        (20_000, {"n_centers": 2000}, 8 * GIGABYTE, "direct", 2000, True),
        (300_000, {"n_centers": 2000}, 2 * GIGABYTE, "direct", 2000, False),
        (1_000_000, {}, 10 * GIGABYTE, "direct", 8000, False),
        (100_000, {"n_centers": 20_000}, 20 * GIGABYTE, "falkon", 20_000, False),
        (30_000, {"n_centers": 10_000}, 10 * GIGABYTE, "falkon", 10_000, True),
        (30_000, {"n_centers": 2000, "solver": "falkon"}, GIGABYTE, "falkon", 2000, True),
        (2000, {"solver": "direct"}, 4 * GIGABYTE, "exact", 2000, True),
    ],
)
def test_the_solver_is_the_fastest_that_the_budget_allows(
    n: int, options: dict[str, object], memory: int, solver: str, m: int, keep: bool
) -> None:
    plan = make_plan(n, 1280, 10, memory=memory, **options)
    assert (plan.solver, plan.n_centers, plan.keep) == (solver, m, keep)
    assert plan.peak_bytes <= memory == plan.memory


@given(
    n=st.integers(10, 10**6),
    d=st.integers(1, 3000),
    c=st.integers(1, 100),
    gigabytes=st.floats(0.05, 50),
)
def test_a_plan_is_within_its_budget_or_an_error(n: int, d: int, c: int, gigabytes: float) -> None:
    memory = int(gigabytes * GIGABYTE)
    try:
        plan = make_plan(n, d, c, memory=memory)
    except MemoryBudgetError:
        with pytest.raises(MemoryBudgetError):  # and less memory does not help
            make_plan(n, d, c, memory=memory // 2)
        return
    assert plan.peak_bytes <= memory
    assert 1 <= plan.n_centers <= n
    more = make_plan(n, d, c, memory=2 * memory)
    assert more.n_centers >= plan.n_centers


def test_a_direct_fit_with_fewer_centers_comes_before_a_falkon_that_is_slower() -> None:
    """A million samples in 2.2 GB: Falkon would compute the kernel matrix twenty times."""
    memory = int(2.2 * GIGABYTE)
    plan = make_plan(1_000_000, 1280, 10, memory=memory)
    falkon = make_plan(1_000_000, 1280, 10, solver="falkon", memory=memory)
    assert plan.solver == "direct"
    assert falkon.n_centers / 2 <= plan.n_centers < falkon.n_centers
    assert plan.peak_bytes <= memory
    for rates in (Rates(1e11, 5e10, 2e9), Rates(2e13, 1e13, 1e11)):  # a processor, a GPU
        seconds = [predicted_seconds(p, 1_000_000, 1280, 10, rates) for p in (plan, falkon)]
        assert seconds[0] < 0.5 * seconds[1]
    # with few features the kernel matrix costs little, and Falkon is the faster
    assert make_plan(1_000_000, 20, 10, memory=memory).solver == "falkon"
    # what was asked for is not changed
    assert make_plan(1_000_000, 1280, 10, n_centers=6000, memory=memory) == falkon
    assert make_plan(1_000_000, 1280, 10, solver="falkon", memory=memory).n_centers == 6000
    # nor is a Falkon that keeps the matrix slower
    kept = make_plan(20_000, 1280, 10, n_centers=9000, memory=5 * GIGABYTE)
    assert (kept.solver, kept.keep) == ("falkon", True)


def test_auto_takes_fewer_centers_where_memory_is_short_and_a_given_number_is_an_error() -> None:
    assert make_plan(100_000, 1280, 10, memory=GIGABYTE).n_centers < 5059
    with pytest.raises(MemoryBudgetError, match=r"30000 centers .* at least \d.* GB") as caught:
        make_plan(100_000, 1280, 10, n_centers=30_000, memory=GIGABYTE)
    assert isinstance(caught.value, ValueError)


def test_what_is_free_is_some_but_not_all_of_the_machine() -> None:
    memory = available_memory(torch.device("cpu"))
    assert 10**8 < memory < 10**14


def test_predicted_times_grow_with_the_work() -> None:
    rates = Rates(product=1e11, product_double=5e10, eigh=5e9)
    seconds = [
        predicted_seconds(make_plan(n, 1280, 10, memory=20 * GIGABYTE), n, 1280, 10, rates)
        for n in (500, 3000, 20_000, 100_000, 1_000_000)
    ]
    assert seconds == sorted(seconds)
    many = make_plan(100_000, 1280, 10, n_centers=20_000, memory=20 * GIGABYTE)
    # 20 times 2 n m d = 5e12 flops and more
    assert predicted_seconds(many, 100_000, 1280, 10, rates) > 20 * 51
    measured = measure_rates(torch.device("cpu"))
    assert measured.product > measured.product_double > 1e8
    assert measured.eigh > 1e6


# ------------------------------------------------------------------------------ kept budgets

CHILD = """
import json, resource, sys, threading, time
import numpy as np, torch
from toptune.kernel import KernelClassifier

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

n, d, c, options = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
X = rng.standard_normal((n, d), dtype=np.float32)
y = rng.integers(0, c, n)
# The libraries' own buffers, which come with the first use, are not the fit's.
KernelClassifier(n_centers=50, random_state=0).fit(X[:500], np.arange(500) % c)
before, peak, done = resident(), 0, False

def watch():
    global peak
    while not done:
        peak = max(peak, resident())
        time.sleep(0.002)

thread = threading.Thread(target=watch, daemon=True)
thread.start()
model = KernelClassifier(random_state=0, **options).fit(X, y)
done = True
thread.join()
print(json.dumps({
    "used": peak - before, "solver": model.plan_.solver, "keep": model.plan_.keep,
    "planned": model.plan_.peak_bytes, "centers": model.n_centers_,
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize(
    ("n", "c", "options", "solver", "keep"),
    [
        (2000, 10, {"memory": 4e8}, "exact", True),
        (20_000, 10, {"memory": 5.5e8, "n_centers": 1500}, "direct", True),
        (20_000, 10, {"memory": 2.8e8, "n_centers": 1000}, "direct", False),
        (20_000, 100, {"memory": 3.4e8, "n_centers": 1000}, "direct", False),
        (10_000, 10, {"memory": 4e8, "n_centers": 1500, "solver": "falkon"}, "falkon", True),
        (
            10_000,
            10,
            {"memory": 9e8, "n_centers": 4000, "solver": "falkon", "penalty": 1e-2},
            "falkon",
            False,
        ),
        (20_000, 10, {"memory": 3e8}, "direct", None),
    ],
)
def test_a_fit_keeps_to_its_budget(
    n: int, c: int, options: dict[str, float], solver: str, keep: bool | None
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([n, 256, c, options])],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["solver"] == solver
    assert keep is None or found["keep"] == keep
    assert found["planned"] <= options["memory"]
    assert found["used"] <= 1.15 * options["memory"], found
    # and the plan is no fantasy: a fit uses a good part of what it says
    assert found["used"] >= 0.2 * found["planned"], found
