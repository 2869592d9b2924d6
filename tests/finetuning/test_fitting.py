"""Runs and whole fits: checkpoints, the choice of the learning rate, early stopping."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_helpers import finished, recipe, same_weights, tiny_fitting, tiny_run

import toptune
from toptune.errors import DataError, DataWarning, ModelFileError
from toptune.features import Backbone
from toptune.finetuning.training import fitting as fitting_module
from toptune.finetuning.training import loop
from toptune.finetuning.training.fitting import Fitting
from toptune.finetuning.training.loop import Run, TrainingDiverged
from toptune.finetuning.training.network import fresh_network
from toptune.finetuning.training.pixels import Decoded
from toptune.finetuning.training.recipe import Machine, one_cycle
from toptune.images import from_arrays

HERE = Path(__file__).parent
AUTO: dict[str, Any] = {"learning_rate": None}


def done(fitting: Fitting) -> Fitting:
    fitting.go()
    return fitting


# ------------------------------------------------------------------------------------- one run


def test_one_cycle_rises_and_falls() -> None:
    factors = [one_cycle(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert factors[-1] < 0.001
    assert one_cycle(0, 1) == 1.0


def test_run_draws_nothing_from_global_generators(tiny: Backbone) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = finished(tiny_run(tiny, recipe()))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    torch.manual_seed(2)
    assert same_weights(first.network, finished(tiny_run(tiny, recipe())).network)


def test_run_dropout_is_seeded() -> None:
    machine = Machine("cpu", "float32")
    draws = []
    for seed in (3, 3, 4):
        with machine.seeded(seed):
            draws.append(torch.rand(2).tolist())
    assert draws[0] == draws[1] != draws[2]


def test_run_ema_averages_weights(tiny: Backbone) -> None:
    plain = finished(tiny_run(tiny, recipe()))
    averaged = finished(tiny_run(tiny, recipe(ema=True)))
    assert same_weights(plain.network, averaged.network)
    assert not same_weights(averaged.network.cpu(), averaged.result())


def test_run_patience_stops_and_keeps_the_best(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 1.0, 2.0, 2.0, 0.5])
    weights: list[dict[str, torch.Tensor]] = []

    def validate(run: Run) -> tuple[float, float]:
        weights.append({name: t.clone() for name, t in run.network.state_dict().items()})
        return 0.0, next(losses)

    monkeypatch.setattr(Run, "validate", validate)
    run = finished(tiny_run(tiny, recipe(epochs=9), patience=2))
    assert [row["val_loss"] for row in run.history] == [3.0, 1.0, 2.0, 2.0]
    result = run.result().state_dict()
    assert all(torch.equal(result[name], weights[1][name]) for name in result)


def test_run_without_validation_raises(tiny: Backbone) -> None:
    with pytest.raises(ValueError, match="no validation part"):
        tiny_run(tiny, recipe()).validate()


def test_run_diverging_rate_is_named(tiny: Backbone) -> None:
    with pytest.raises(TrainingDiverged, match=r"learning_rate=1e\+30 is too high"):
        finished(tiny_run(tiny, recipe(), rate=1e30))


# ----------------------------------------------------------------------------------- the choice


def test_fitting_rate_is_chosen_on_held_out_images(
    tiny_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[tuple[int, ...], set[int]]] = []
    seen: list[tuple[str, ...]] = []
    run_class, decode_images = fitting_module.Run, fitting_module.decode_images

    def noting_run(*args: Any, **more: Any) -> Run:
        trained.append((more["seed"], set(args[3].rows.tolist())))
        return run_class(*args, **more)

    def noting_decode(images: Any, *args: Any, **more: Any) -> Decoded:
        seen.append(images.ids)
        return decode_images(images, *args, **more)

    monkeypatch.setattr(fitting_module, "Run", noting_run)
    monkeypatch.setattr(fitting_module, "decode_images", noting_decode)
    fit = done(tiny_fitting(tiny_name, recipe(epochs=1), **AUTO))
    assert [seed for seed, _ in trained] == [(0, 1), (0, 2), (0, 3), (0, 0)]
    held_out = {fit.decoded.images.ids.index(name) for (names) in seen for name in names}
    assert len(seen) == 1
    assert len(held_out) == 4
    for _, rows in trained[:3]:
        assert rows == set(range(16)) - held_out
    assert trained[3][1] == set(range(16))
    assert [row["learning_rate"] for row in fit.selection] == list(fit.rates)
    best = max(fit.selection, key=lambda row: (row["accuracy"], -row["log_loss"]))
    assert fit.learning_rate == best["learning_rate"]
    assert fit.seconds["select"] > 0
    assert fit.seconds["fit"] > 0
    # It is then the fit with that rate.
    again = done(tiny_fitting(tiny_name, recipe(epochs=1), learning_rate=fit.learning_rate))
    assert same_weights(fit.network, again.network)
    assert again.selection == []


@pytest.mark.parametrize("settings", [AUTO, {"patience": 1}])
def test_fitting_groups_are_on_one_side(
    tiny_name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twins that are on both sides would choose the rate that learns images by heart."""
    fit = tiny_fitting(tiny_name, recipe(epochs=1), **settings)
    groups = np.array([f"object {i // 4}" for i in range(16)])
    images = replace(fit.decoded.images, groups=groups)
    fit.decoded = replace(fit.decoded, images=images)
    seen: list[tuple[str, ...]] = []
    decode_images = fitting_module.decode_images

    def noting_decode(images: Any, *args: Any, **more: Any) -> Decoded:
        seen.append(images.ids)
        return decode_images(images, *args, **more)

    monkeypatch.setattr(fitting_module, "decode_images", noting_decode)
    rows, validation = fit._parts()
    assert validation is not None
    held_out = [fit.decoded.images.ids.index(name) for name in seen[0]]
    assert len(held_out) in (4, 8)  # one object of each class, or one
    assert not set(groups[rows]) & set(groups[held_out])
    assert sorted([*rows, *held_out]) == list(range(16))


def test_fitting_fingerprint_depends_on_groups(tiny_name: str) -> None:
    fit = tiny_fitting(tiny_name, recipe(epochs=1), **AUTO)
    loose = fit._fingerprint()
    images = replace(fit.decoded.images, groups=np.array([f"{i // 4}" for i in range(16)]))
    fit.decoded = replace(fit.decoded, images=images)
    assert fit._fingerprint() != loose


def test_fitting_chosen_rate_is_most_accurate_then_surest(tiny_name: str) -> None:
    fit = tiny_fitting(tiny_name, recipe(), **AUTO)
    fit.selection = [
        {"learning_rate": rate, "accuracy": accuracy, "log_loss": log_loss}
        for rate, accuracy, log_loss in [(1, 0.8, 0.1), (2, 0.9, 0.5), (3, 0.9, 0.4)]
    ]
    assert fit._chosen() == 3


def test_fitting_diverging_rates_lose(tiny_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fitting_module.GRIDS, "full", (1e30, 0.01))
    fit = done(tiny_fitting(tiny_name, recipe(epochs=1), **AUTO))
    assert fit.learning_rate == 0.01
    monkeypatch.setitem(fitting_module.GRIDS, "full", (1e30, 1e29))
    with pytest.raises(TrainingDiverged, match=r"every learning rate .*1e\+30, 1e\+29"):
        done(tiny_fitting(tiny_name, recipe(epochs=1), **AUTO))


def few(fit: Fitting) -> Fitting:
    """The same fit on two images of different classes."""
    images = from_arrays([fit.decoded.pixels[0], fit.decoded.pixels[-1]], ["a", "b"])
    fit.decoded = Decoded(fit.decoded.pixels[[0, -1]], images, 0.0)
    fit.codes = np.array([0, 1])
    return fit


def test_fitting_too_few_images_warn(tiny_name: str) -> None:
    fit = few(tiny_fitting(tiny_name, recipe(epochs=1), **AUTO))
    with pytest.warns(DataWarning, match=r"cannot be chosen on so few images and is 0\.002"):
        fit.go()
    assert (fit.learning_rate, fit.selection) == (0.002, [])
    fit = few(tiny_fitting(tiny_name, recipe(epochs=1), patience=1))
    with pytest.raises(DataError, match="patience needs a validation part, but cannot split"):
        fit.go()


# ----------------------------------------------------------------------------------- checkpoints


class Killed(BaseException):
    """What ends a fit without giving it a chance."""


def killed_after(
    n_epochs: int, fit: Fitting, monkeypatch: pytest.MonkeyPatch, *, after_writing: bool = True
) -> None:
    """Run a fit until its n-th epoch was, or was about to be, written."""
    save, count = fitting_module.save_tensors, 0

    def saving(*args: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        if count == n_epochs and not after_writing:
            raise Killed
        save(*args, **more)
        if count == n_epochs:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(fitting_module, "save_tensors", saving)
        fit.go()


SETTINGS = {
    "plain": (recipe(epochs=3), {}),
    "average and patience": (recipe(epochs=3, ema=True), {"patience": 1}),
    "two phases": (recipe(epochs=2, mode="lp-ft"), {}),
    "choice": (recipe(epochs=2), AUTO),
}
CASES = [("plain", 1), ("plain", 3), ("average and patience", 2), ("two phases", 1)]
CASES += [("two phases", 2), ("choice", 2), ("choice", 5), ("choice", 7)]


@pytest.fixture(scope="module")
def unbroken(tiny_name: str) -> dict[str, Fitting]:
    return {k: done(tiny_fitting(tiny_name, how, **more)) for k, (how, more) in SETTINGS.items()}


@pytest.mark.parametrize(("name", "n_epochs"), CASES)
def test_fitting_resumed_equals_unbroken(
    name: str,
    n_epochs: int,
    tiny_name: str,
    unbroken: dict[str, Fitting],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    how, more = SETTINGS[name]
    checkpoint = tmp_path / "fit.checkpoint"
    killed_after(n_epochs, tiny_fitting(tiny_name, how, checkpoint=checkpoint, **more), monkeypatch)
    assert checkpoint.exists()
    fit = tiny_fitting(tiny_name, how, checkpoint=checkpoint, **more)
    epochs: list[int] = []
    train_epoch = Run.train_epoch

    def counting(run: Run, *args: Any) -> None:
        epochs.append(1)
        train_epoch(run, *args)

    monkeypatch.setattr(Run, "train_epoch", counting)
    fit.go()
    whole = unbroken[name]
    assert same_weights(fit.network, whole.network)
    assert fit.learning_rate == whole.learning_rate
    assert fit.selection == whole.selection
    assert [row["loss"] for row in fit.history] == [row["loss"] for row in whole.history]
    total = len(whole.selection) * how.total_epochs + len(whole.history)
    assert len(epochs) == total - n_epochs  # what was done is not done again
    assert not checkpoint.exists()
    assert list(tmp_path.iterdir()) == []


def test_fitting_killed_before_saving_costs_one_epoch(
    tiny_name: str,
    unbroken: dict[str, Fitting],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    how, more = SETTINGS["choice"]
    checkpoint = tmp_path / "fit.checkpoint"
    for n_epochs in (2, 3):
        fit = tiny_fitting(tiny_name, how, checkpoint=checkpoint, **more)
        killed_after(n_epochs, fit, monkeypatch, after_writing=False)
    fit = done(tiny_fitting(tiny_name, how, checkpoint=checkpoint, **more))
    assert same_weights(fit.network, unbroken["choice"].network)


CHILD = """
import os, signal, sys
from training_helpers import recipe, tiny_fitting
from toptune.finetuning.training import fitting
save, count = fitting.save_tensors, 0
def saving(*args, **more):
    global count
    save(*args, **more)
    count += 1
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
fitting.save_tensors = saving
tiny_fitting(sys.argv[1], recipe(epochs=3), checkpoint=sys.argv[2]).go()
"""


def test_fitting_killed_process_goes_on(
    tiny_name: str, unbroken: dict[str, Fitting], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "fit.checkpoint"
    child = subprocess.run(
        [sys.executable, "-c", CHILD, tiny_name, str(checkpoint)],
        env={**os.environ, "PYTHONPATH": f"{Path(toptune.__file__).parents[1]}:{HERE}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    fit = done(tiny_fitting(tiny_name, recipe(epochs=3), checkpoint=checkpoint))
    assert len(fit.history) == 3
    assert same_weights(fit.network, unbroken["plain"].network)


@pytest.mark.parametrize(
    "change",
    ["epochs", "learning_rate", "random_state", "pixels", "codes"],
)
def test_fitting_checkpoint_of_another_fit_raises(
    change: str, tiny_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "fit.checkpoint"
    killed_after(1, tiny_fitting(tiny_name, recipe(), checkpoint=checkpoint), monkeypatch)
    how = recipe(epochs=5) if change == "epochs" else recipe()
    more = {change: 1} if change in ("learning_rate", "random_state") else {}
    fit = tiny_fitting(tiny_name, how, checkpoint=checkpoint, **more)
    if change == "pixels":
        fit.decoded.pixels[3, 5, 5, 0] += 1
    if change == "codes":
        fit.codes = 1 - fit.codes
    with pytest.raises(ModelFileError, match="checkpoint of another fit: of other images"):
        fit.go()
    assert checkpoint.exists()


def test_fitting_damaged_checkpoint_is_named(
    tiny_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "fit.checkpoint"
    killed_after(1, tiny_fitting(tiny_name, recipe(), checkpoint=checkpoint), monkeypatch)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(ModelFileError, match=r"fit\.checkpoint is damaged"):
        done(tiny_fitting(tiny_name, recipe(), checkpoint=checkpoint))


def test_run_uses_fast_depthwise(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []

    class Noting(loop.FastDepthwise):
        def __enter__(self) -> Any:
            entered.append(1)
            return super().__enter__()

    monkeypatch.setattr(loop, "FastDepthwise", Noting)
    tiny_run(tiny, recipe(epochs=1)).train_epoch()
    assert len(entered) == 3


def test_fresh_network_weights_are_the_same(tiny: Backbone) -> None:
    assert same_weights(fresh_network(tiny, 2), fresh_network(tiny, 2))
