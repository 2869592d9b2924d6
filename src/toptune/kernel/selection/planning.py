"""Which solver, how many centers, what is kept in memory: decided from sizes and a memory budget.

Letters: n samples, d features, m centers, c outputs, s bytes of a number in the products (4 or 8).
The budget is for what a fit allocates itself; the features belong to the caller.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from toptune.kernel.operators import BLOCK_BYTES, rows_per_block
from toptune.kernel.selection.centers import EXACT_SAMPLES, automatic_n_centers
from toptune.kernel.selection.search import PENALTIES, SELECTION_SAMPLES, WEIGHT_SAMPLES
from toptune.kernel.systems.nystrom import PENALTY_ROWS

Solver = Literal["exact", "direct", "falkon"]

#: Above so many centers factorising m x m matrices costs more than conjugate gradient.
DIRECT_CENTERS = 8000
#: Centers of the direct fit that chooses the penalty for Falkon, and gives leave-one-out for it.
PROXY_CENTERS = 2000
#: Products that conjugate gradient is expected to need, for the estimate of the time.
EXPECTED_PRODUCTS = 20
#: Penalties that a direct fit compares, typically: the start, its neighbours, one beyond.
EXPECTED_PENALTIES = 4
#: Of the memory that is free, what "auto" takes as the budget.
FREE_SHARE = 0.5
#: Least number of centers that a budget can force "auto" down to.
LEAST_CENTERS = 100
#: Share of Falkon's centers that a faster direct fit may do with, where memory is short.
FEWER_CENTERS = 0.5
#: What libraries allocate once: buffers of the linear algebra, of threads.
OVERHEAD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Plan:
    """How a fit is going to be computed.

    Attributes
    ----------
    solver
        "exact": all samples are centers, Cholesky factors of n x n matrices. "direct": Nystrom,
        factorisations of m x m matrices. "falkon": Nystrom, conjugate gradient.
    n_centers
        m.
    keep
        Whether an n x m matrix stays in memory; else its blocks are computed anew when needed.
    block_rows
        Rows of K_nm that are computed at a time.
    peak_bytes
        Most memory that the fit is expected to hold at once beyond what it was given.
    memory
        The budget in bytes.
    """

    solver: Solver
    n_centers: int
    keep: bool
    block_rows: int
    peak_bytes: int
    memory: int


class MemoryBudgetError(ValueError):
    """What was asked for does not fit into the memory budget."""


def make_plan(
    n: int,
    d: int,
    c: int,
    *,
    n_centers: int | None = None,
    solver: Literal["auto", "direct", "falkon"] = "auto",
    itemsize: int = 4,
    n_groups: int = 1,
    memory: int,
) -> Plan:
    """Choose solver, number of centers and what to keep, within a budget.

    Parameters
    ----------
    n, d, c
        Samples, features and outputs.
    n_centers
        Number of centers asked for; None chooses it, fewer where memory is short.
    solver
        "direct", "falkon", or "auto" to choose.
    itemsize
        Bytes of a number in the products: 4 for float16 and float32 features, 8 for float64.
    n_groups
        Groups of features whose weights are to be chosen.
    memory
        Budget in bytes.

    Raises
    ------
    MemoryBudgetError
        If nothing fits: it names the least budget that would do.

    Examples
    --------
    >>> from toptune.kernel.selection.planning import make_plan
    >>> plan = make_plan(1_000_000, 1280, 10, n_centers=4000, memory=3 * 10**9)
    >>> plan.solver, plan.keep, plan.peak_bytes < 3 * 10**9
    ('direct', False, True)
    """
    wanted = automatic_n_centers(n) if n_centers is None else min(n_centers, n)
    m = wanted
    while True:
        least = OVERHEAD_BYTES + selection_bytes(n, d, c, itemsize, n_groups)
        options = [
            (kind, keep, max(needed, least))
            for kind, keep, needed in _options(n, d, c, m, solver=solver, s=itemsize)
        ]
        for kind, keep, needed in options:
            if needed <= memory:
                plan = Plan(kind, m, keep, rows_per_block(m, d, itemsize), needed, memory)
                free = solver == "auto" and n_centers is None
                return _or_fewer_centers(plan, n, d, c, itemsize, least) if free else plan
        if n_centers is not None or m <= LEAST_CENTERS:
            least = min(needed for _, _, needed in options)
            raise MemoryBudgetError(
                f"{m} centers for {n} samples of {d} features and {c} outputs take at least "
                f"{_gigabytes(least)}, and the memory budget is {_gigabytes(memory)}: allow more "
                "memory, or fewer centers"
            )
        m = max(LEAST_CENTERS, m * 3 // 4)


def _or_fewer_centers(plan: Plan, n: int, d: int, c: int, s: int, least: int) -> Plan:
    """Return the largest direct fit that is faster, for a Falkon that computes K_nm many times."""
    if plan.solver != "falkon" or plan.keep:
        return plan
    m = plan.n_centers
    while (m := m * 15 // 16) >= FEWER_CENTERS * plan.n_centers:
        for keep in (True, False):
            needed = max(direct_bytes(n, d, c, m, s, keep), least)
            direct = Plan("direct", m, keep, rows_per_block(m, d, s), needed, plan.memory)
            seconds = [predicted_seconds(p, n, d, c, TYPICAL_RATES) for p in (direct, plan)]
            if needed <= plan.memory and seconds[0] < seconds[1]:
                return direct
    return plan


def _options(
    n: int, d: int, c: int, m: int, *, solver: str, s: int
) -> list[tuple[Solver, bool, int]]:
    """Ways to solve with m centers, (solver, keep, bytes), the preferred ones first."""
    falkon: list[tuple[Solver, bool, int]] = [
        ("falkon", keep, falkon_bytes(n, d, c, m, s, keep)) for keep in (True, False)
    ]
    if solver == "falkon":
        return falkon
    direct: list[tuple[Solver, bool, int]] = [
        ("direct", keep, direct_bytes(n, d, c, m, s, keep)) for keep in (True, False)
    ]
    if m == n and n <= max(EXACT_SAMPLES, DIRECT_CENTERS):
        direct.insert(0, ("exact", True, exact_bytes(n, d, c, s)))
    if solver == "direct":
        return direct
    return direct + falkon if m <= DIRECT_CENTERS else falkon + direct


# ------------------------------------------------------------------------------------- memory
#
# Each sum is the largest of the stages of a fit; tests compare it with the peak of a process.


def selection_bytes(n: int, d: int, c: int, s: int, n_groups: int = 1) -> int:
    """Choosing the kernel on the subset: two eigendecompositions side by side.

    With several groups also a base matrix of each, once more in float64 for their weights.
    """
    k = min(n, SELECTION_SAMPLES)
    kernel = 2 * 8 * k * k * s + 3 * k * d * s + len(PENALTIES) * k * c * s
    if n_groups == 1:
        return kernel
    few = min(n, WEIGHT_SAMPLES)
    return kernel + k * d * s + n_groups * (2 * k * k * s + 2 * few * few * 8)


def _blocks_bytes(n: int, d: int, m: int, s: int) -> int:
    """Count blocks held at once: of features as read, centred, squared, of K_nm and of Phi."""
    block = min(BLOCK_BYTES, n * max(m, d) * s)
    return 5 * block


def exact_bytes(n: int, d: int, c: int, s: int) -> int:
    """Kernel matrix, then two factorisations side by side, then one in float64."""
    side_by_side = n * n * (s + 2 * 3 * s)
    final = n * n * (s + 3 * 8)
    stage = max(side_by_side, final) + 2 * n * d * s + 8 * n * c * 8
    return OVERHEAD_BYTES + max(stage, selection_bytes(n, d, c, s))


def direct_bytes(n: int, d: int, c: int, m: int, s: int, keep: bool) -> int:
    """Matrices of centers in float64, those of two penalties side by side, and Phi, kept or not."""
    samples = 5 * n * c * s + 2 * n * 8
    centers = 7 * m * m * 8 + m * d * (2 * s + 8)
    rows = min(n, PENALTY_ROWS)
    some = (0 if keep and rows == n else rows * m * s) + 6 * rows * c * s
    held = n * m * s if keep else 0
    total = samples + centers + some + held + _blocks_bytes(n, d, m, s)
    return OVERHEAD_BYTES + max(total, selection_bytes(n, d, c, s))


def falkon_bytes(n: int, d: int, c: int, m: int, s: int, keep: bool) -> int:
    """Two factors and their making in float64, perhaps K_nm; before, a direct fit for lambda."""
    samples = 6 * n * c * s + 2 * n * 8
    centers = 5 * m * m * 8 + m * d * (2 * s + 8) + 10 * m * c * 8
    held = n * m * s if keep else 0
    total = samples + centers + held + _blocks_bytes(n, d, m, s)
    proxy = direct_bytes(n, d, c, min(m, PROXY_CENTERS), s, keep=False)
    return max(OVERHEAD_BYTES + total, proxy)


def available_memory(device: torch.device) -> int:
    """Return the budget that "auto" stands for, in bytes: half of what is free on the device."""
    if device.type == "cuda":
        return int(FREE_SHARE * torch.cuda.mem_get_info(device)[0])
    return int(FREE_SHARE * _free_memory())


def _free_memory() -> int:
    """Bytes that a process can still allocate on this machine, or in this container."""
    free = 4 * 2**30  # where the system does not say
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():
        free = min(free, max(0, int(limit.read_text()) - int(used.read_text())))
    return free


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2g} GB"


# --------------------------------------------------------------------------------------- time


@dataclass(frozen=True)
class Rates:
    """Measured speed: matrix products (flop/s) and eigendecompositions (m^3/s) of a device."""

    product: float
    product_double: float
    eigh: float


#: What solvers are compared at: only the ratios count, and are alike on many machines.
TYPICAL_RATES = Rates(product=1e11, product_double=5e10, eigh=2e9)


def measure_rates(device: torch.device) -> Rates:
    """Measure the speed of this machine, in about a second."""

    def seconds(function: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - start)
        return best

    k, e = 2048, 768
    A = torch.rand(k, k, device=device)
    B = A.double()
    C = B[:e, :e] + B[:e, :e].T
    return Rates(
        product=2 * k**3 / seconds(lambda: A @ A),
        product_double=2 * k**3 / seconds(lambda: B @ B),
        eigh=e**3 / seconds(lambda: torch.linalg.eigh(C)),
    )


def predicted_seconds(plan: Plan, n: int, d: int, c: int, rates: Rates) -> float:
    """Estimate the time of a fit with everything on "auto", from its flops."""
    m = plan.n_centers
    k = min(n, SELECTION_SAMPLES)
    seconds = 5 * k**3 / rates.eigh
    kernel = 2.0 * n * m * d / rates.product
    if plan.solver == "exact":
        return seconds + kernel + 4 * n**3 / rates.product + n**3 / rates.product_double
    if plan.solver == "direct":
        return seconds + _direct_seconds(n, d, m, plan.keep, rates)
    factors = 2 * m**3 / rates.product_double
    products = EXPECTED_PRODUCTS * (4.0 * n * m * c / rates.product)
    if not plan.keep:
        products += EXPECTED_PRODUCTS * kernel
    proxy = _direct_seconds(n, d, min(m, PROXY_CENTERS), False, rates)
    return seconds + kernel + factors + products + proxy


def _direct_seconds(n: int, d: int, m: int, keep: bool, rates: Rates) -> float:
    kernel = 2.0 * n * m * d / rates.product
    square = 2.0 * n * m * m / rates.product
    passes = 1 if keep else 2
    rows = min(n, PENALTY_ROWS) / n
    # Leave-one-out of the penalties that are compared, then of all samples at the best one.
    left_out = 0.57 * (EXPECTED_PENALTIES * rows + (rows < 1))
    factors = (3 + 0.67 * EXPECTED_PENALTIES) * m**3 / rates.product_double
    return passes * kernel + (1.13 + left_out) * square + factors
