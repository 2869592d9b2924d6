"""Comparisons on toy pictures: the same images for both, honest numbers, budgets, kills, groups."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from page_checks import Page
from toptune import TopTuner
from toptune.errors import DataError, DataWarning, StorageError
from toptune.evaluation.intervals import PairedDifference
from toptune.evaluation.learning_curve import Extrapolation, Forecast, PowerLaw
from toptune.features import extractor
from toptune.finetuning.estimator import FineTuner
from toptune.finetuning.training import fitting as fitting_module
from toptune.finetuning.training.recipe import Recipe
from toptune.finetuning.training.trial import Speed, TrainingPlan, measure_speed, plan_training
from toptune.images import ImageSet, from_arrays, stratified_split
from toptune.reports.comparison import Comparison, FineTuningPlan, compare, comparison_page
from toptune.reports.comparison import compute as compute_module
from toptune.reports.comparison import fine_tuning as fine_module
from toptune.reports.comparison.compute import training_and_test
from toptune.reports.comparison.fine_tuning import FineTuning
from toptune.reports.comparison.result import MethodOutcome
from toptune.reports.learning_curve import CurvePoint, LearningCurve

RECIPE = Recipe("full", 15, 16, layer_decay=0.8, flip=True, ema=False)


def night_and_day(n: int = 24, *, seed: int = 0, groups: bool = False) -> ImageSet:
    """n dark and n bright images of 24 x 24 pixels, groups of 3 neighbours."""
    noise = np.random.default_rng(seed).integers(0, 90, size=(2 * n, 24, 24, 3), dtype=np.uint8)
    noise[n:] += 150
    names = [f"object {i // 3}" for i in range(2 * n)] if groups else None
    return from_arrays(noise, ["night"] * n + ["day"] * n, groups=names)


@pytest.fixture(autouse=True)
def _warnings_are_expected_or_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        yield


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the converted network between the comparisons, which would convert it every time."""
    folder = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        keeping = partial(extractor.make_engine, cache=folder)
        patch.setattr(
            extractor,
            "make_engine",
            lambda b, *, precision, cache: keeping(b, precision=precision),
        )
        yield


@pytest.fixture
def quick(tiny_name: str, converted: None) -> Callable[..., Comparison]:
    """Compare with the tiny network and one epoch."""

    def comparing(data: Any, **more: Any) -> Comparison:
        return compare(data, **{"backbone": tiny_name, "epochs": 1, **more})

    return comparing


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[FineTuner]:
    """Fine-tunings that were done, in order."""
    done: list[FineTuner] = []
    fit = FineTuner.fit

    def noting(self: FineTuner, *args: Any, **more: Any) -> FineTuner:
        done.append(self)
        return fit(self, *args, **more)

    monkeypatch.setattr(FineTuner, "fit", noting)
    return done


def slow(monkeypatch: pytest.MonkeyPatch, *, train: float) -> None:
    """Let a trial say that training takes so many seconds an image."""
    monkeypatch.setattr(fine_module, "measure_speed", lambda *a, **m: Speed(0.0, train))


# ------------------------------------------------------------------------------------ the result


def test_compare_both_methods_equal_each_alone(
    quick: Callable[..., Comparison], tiny_name: str, fits: list[FineTuner]
) -> None:
    """Each is what it is alone: nothing of the test images gets into it."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 160, size=(48, 24, 24, 3), dtype=np.uint8)
    pixels[24:] += rng.integers(0, 60, size=(24, 1, 1, 1), dtype=np.uint8)
    images = from_arrays(pixels, ["a"] * 24 + ["b"] * 24)
    said: list[str] = []
    found = quick(images, random_state=3, report=said.append)
    assert (found.split, found.n_train, found.n_test, found.n_classes) == ("random", 36, 12, 2)
    assert found.n_test_groups is None
    train, test = stratified_split(images.labels, test_size=0.25, random_state=3)
    top = TopTuner(backbone=tiny_name, cache=None, random_state=3).fit(images.subset(train))
    assert top.score(images.subset(test)) == found.top_tuning.accuracy
    assert top.loo_.accuracy == found.curve.points[-1].loo_accuracy
    assert set(found.top_tuning.seconds) == {"load", "decode_extract", "select", "fit"}
    assert found.top_tuning.peak_memory > 10**7
    assert found.fine_tuning is not None
    assert fits[0].score(images.subset(test)) == found.fine_tuning.accuracy
    assert fits[0].ids_ == images.subset(train).ids
    assert len(fits[0].selection_) == 3
    assert found.plan is not None
    assert found.plan.learning_rate == fits[0].learning_rate_
    assert set(found.fine_tuning.seconds) == {"decode", "select", "fit"}
    assert all(s > 0 for s in found.fine_tuning.seconds.values())
    assert found.difference is not None
    assert found.difference.n == 12
    expected = found.fine_tuning.accuracy - found.top_tuning.accuracy
    assert found.difference.difference == pytest.approx(expected)
    total = found.fine_tuning.total_seconds / found.top_tuning.total_seconds
    assert found.ratio == pytest.approx(total)
    assert said[0] == "36 images to train on, 12 to compare on (drawn at random)"
    assert said[-1].startswith("fine-tuning: about ")
    assert said[-1].endswith("(1 epoch, three learning rates tried)")


def test_comparison_to_dict_is_json(quick: Callable[..., Comparison], tmp_path: Path) -> None:
    found = quick(night_and_day(), fine_tuning=False)
    assert not list((tmp_path / "cache").rglob("*.sqlite"))  # no features for a second run
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["fine_tuning"] is document["difference"] is document["ratio"] is None
    assert document["top_tuning"]["total_seconds"] == pytest.approx(found.top_tuning.total_seconds)
    assert document["verdict"].endswith("fine-tuning was not asked for.")
    assert document["curve"]["extrapolation"]["status"] == "flat"  # nothing is wrong
    assert [p["fraction"] for p in document["curve"]["points"]] == [0.125, 0.25, 0.5, 1.0]


# ------------------------------------------------------------------------------------- the split


def test_training_and_test_splits_of_data_are_used(image_tree: Callable[..., Path]) -> None:
    names = [f"{s}/{c}/{i}.png" for s in ("train", "val") for c in "ab" for i in range(6)]
    folder = image_tree([*names, "test/a/0.png", "test/a/1.png", "test/b/0.png"])
    parts = training_and_test(folder, None, 0.25, 0)
    assert (parts.split, len(parts.train), len(parts.test)) == ("test", 12, 3)
    assert {name.split("/")[0] for name in parts.train.ids} == {"train"}
    shutil.rmtree(folder / "test")
    assert training_and_test(folder, None, 0.25, 0).split == "val"
    shutil.rmtree(folder / "val")
    parts = training_and_test(folder, None, 0.25, 0)
    assert (parts.split, len(parts.train), len(parts.test)) == ("random", 9, 3)


def test_compare_groups_are_on_one_side_and_are_the_unit(
    quick: Callable[..., Comparison], fits: list[FineTuner], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = night_and_day(groups=True)
    given: list[Any] = []
    difference = fine_module.paired_difference

    def noting(*args: Any, **more: Any) -> PairedDifference:
        given.append(more["groups"])
        return difference(*args, **more)

    monkeypatch.setattr(fine_module, "paired_difference", noting)
    found = quick(images)
    assert images.groups is not None
    trained = {images.groups[images.ids.index(name)] for name in fits[0].ids_}
    assert not trained & set(given[0].tolist())
    assert found.n_test_groups == len(set(given[0].tolist())) == 4
    sizes = [point.n for point in found.curve.points]
    assert all(n == round(n) and n % 3 == 0 for n in sizes)


def test_training_and_test_shared_groups_warns(
    image_tree: Callable[..., Path],
) -> None:
    folder = image_tree([f"{c}{i}.png" for c in "ab" for i in range(8)])
    rows = [
        f"{c}{i}.png,{c},{'test' if i > 4 else 'train'},{c} {i // 2}"
        for c in "ab"
        for i in range(8)
    ]
    table = folder / "list.csv"
    table.write_text("\n".join(["image_path,label,split,group", *rows]))
    with pytest.warns(DataWarning, match="2 groups have both training and test images.* a 2"):
        training_and_test(table, None, 0.25, 0)


def test_compare_unreadable_images_are_left_out_of_both(
    quick: Callable[..., Comparison], image_tree: Callable[..., Path], fits: list[FineTuner]
) -> None:
    names = [f"{s}/{c}/{i}.png" for s in ("train", "test") for c in "ab" for i in range(6)]
    folder = image_tree(names)
    for name in ("train/a/0.png", "test/b/0.png"):
        (folder / name).write_bytes(b"not an image")
    with pytest.warns(DataWarning) as caught:
        found = quick(folder)
    assert len(caught) == 2  # once for each part, not again for the second method
    assert (found.n_train, found.n_test) == (11, 11)
    assert found.difference is not None
    assert found.difference.n == 11
    assert [item.id for item in found.quarantined] == ["train/a/0.png", "test/b/0.png"]
    assert "train/a/0.png" not in fits[0].ids_


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a/1", "train/b/1", "test/a/1"], "are of one class: at least two"),
        (["train/a/1", "test/a/1", "test/b/1"], "at least two classes, found only 'a'"),
        (["train/a/1", "train/b/1", "test/a/1", "test/c/1"], "no training image has: c; add"),
        (["a/1", "b/1"], "no class has two images"),
        (["a/1", "a/2", "a/3", "a/4"], "at least two classes|are of one class|one class"),
    ],
)
def test_compare_too_few_classes_raises(
    quick: Callable[..., Comparison],
    image_tree: Callable[..., Path],
    names: list[str],
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        quick(image_tree([f"{name}.png" for name in names]))


def test_compare_empty_test_split_raises(
    quick: Callable[..., Comparison], image_tree: Callable[..., Path]
) -> None:
    folder = image_tree([f"train/{c}/{i}.png" for c in "ab" for i in range(4)])
    for kind in "ab":
        (folder / "test" / kind).mkdir(parents=True)
    with pytest.raises(DataError, match=r"test"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        quick(folder)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"budget": 0}, "budget must be > 0 minutes, got 0"),
        ({"budget": -1.5}, "budget must be > 0 minutes, got -1.5"),
        ({"budget": float("nan")}, "budget must be > 0 minutes, got nan"),
        ({"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        ({"random_state": -1}, "random_state must be a whole number >= 0, got -1"),
        ({"backbone": "auto"}, 'one network, got "auto"'),
        ({"test_size": 1.5}, r"test_size must be between 0 and 1, got 1\.5"),
    ],
)
def test_compare_bad_parameters_raises(
    quick: Callable[..., Comparison], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        quick(night_and_day(6), **more)


# ------------------------------------------------------------------------------------ the budget


def plan(budget: float | None, *, n: int = 100, epochs: int = 15) -> TrainingPlan:
    return plan_training(Speed(0.01, 0.1), n, recipe=replace(RECIPE, epochs=epochs), budget=budget)


def test_plan_training_short_budget_drops_choice_then_epochs() -> None:
    # 15 epochs of 100 images at 0.1 s are 150 s; three more on 80 images are 360 s; decoding 1.2 s.
    assert plan(None) == TrainingPlan(15, None, pytest.approx(511.2), True)  # type: ignore[arg-type]
    assert plan(512).learning_rate is None
    assert plan(511) == TrainingPlan(15, 2e-3, pytest.approx(151), True)  # type: ignore[arg-type]
    assert plan(150.9).epochs == 14
    assert plan(31.1).epochs == 3
    assert plan(30.9) == TrainingPlan(3, 2e-3, pytest.approx(31), False)  # type: ignore[arg-type]
    assert plan(30.9, epochs=2).fits  # fewer than three are allowed where they are asked for


def test_measure_speed_estimate_is_near_the_time_of_a_fit(tiny_name: str) -> None:
    from toptune.features import load_backbone
    from toptune.finetuning.training.recipe import Machine

    images = night_and_day(40)
    speed = measure_speed(
        load_backbone(tiny_name), images, RECIPE, Machine("cpu", "float32"), n_classes=2
    )
    estimated = plan_training(speed, 80, recipe=replace(RECIPE, epochs=1)).seconds
    tuner = FineTuner(backbone=tiny_name, epochs=1, precision="float32").fit(images)
    took = sum(tuner.seconds_.values())
    assert estimated / 10 < took < estimated * 10  # the machine may be busy with something else


def test_measure_speed_one_image_is_enough(tiny_name: str) -> None:
    from toptune.features import load_backbone
    from toptune.finetuning.training.recipe import Machine

    machine, images = Machine("cpu", "float32"), night_and_day(8).subset([0, 9])
    speed = measure_speed(load_backbone(tiny_name), images, RECIPE, machine, n_classes=2)
    assert speed.train > 0


def test_compare_short_budget_reduces_epochs(
    quick: Callable[..., Comparison], fits: list[FineTuner], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meter:
        def __enter__(self) -> Meter:
            return self

        def __exit__(self, *_: object) -> None:
            self.kwh = 0.002

    monkeypatch.setattr(compute_module, "EnergyMeter", Meter)
    monkeypatch.setattr(fine_module, "EnergyMeter", Meter)
    slow(monkeypatch, train=0.5)  # 36 images: 18 s an epoch
    said: list[str] = []
    found = quick(night_and_day(), epochs=6, budget=1.3, report=said.append)
    assert fits[0].epochs == 4
    assert fits[0].selection_ == []
    assert found.fine_tuning is not None
    assert found.top_tuning.energy_kwh == found.fine_tuning.energy_kwh == 0.002
    assert "an estimated 2 Wh instead of 2 Wh)." in found.verdict
    assert found.plan == FineTuningPlan(4, 2e-3, 72.0, reduced=True)
    assert said[-1] == (
        "fine-tuning: about 72 seconds (4 of 6 epochs, one learning rate, shortened to fit the "
        "budget)"
    )
    assert found.verdict.endswith(
        " The budget allowed it 4 epochs at one learning rate: more could change this."
    )


def test_compare_budget_too_short_skips_fine_tuning(
    quick: Callable[..., Comparison], fits: list[FineTuner], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, train=10.0)
    found = quick(night_and_day(), epochs=6, budget=1)
    assert fits == []
    assert found.fine_tuning is found.difference is found.ratio is None
    assert found.skipped == (
        "fine-tuning was skipped: 3 epochs at one learning rate would have taken about 18 minutes, "
        "more than the budget of 60 seconds"
    )
    assert found.plan is not None
    assert found.plan.estimated_seconds == 1080
    assert found.verdict.startswith("Top-tuning is right on 100.0 % of the test images after ")


def test_compare_diverged_fine_tuning_is_skipped(
    quick: Callable[..., Comparison], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(fitting_module.GRIDS, "full", (1e30, 1e29))
    found = quick(night_and_day(8), cache=tmp_path)
    assert found.skipped is not None
    assert found.skipped.startswith("fine-tuning failed: every learning rate is too high")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------- the kills


class Killed(BaseException):
    """What ends a run without giving it a chance."""


def kill_after(monkeypatch: pytest.MonkeyPatch, n_epochs: int) -> None:
    save, count = fitting_module.save_tensors, 0

    def saving(*args: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        save(*args, **more)
        if count == n_epochs:
            raise Killed

    monkeypatch.setattr(fitting_module, "save_tensors", saving)


def test_compare_after_kill_continues(
    quick: Callable[..., Comparison],
    fits: list[FineTuner],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    images = night_and_day(6)
    whole = quick(images, cache=None, epochs=2)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 3)
        quick(images, cache=tmp_path, epochs=2)
    assert sorted(p.suffix for p in (tmp_path / "comparisons").iterdir()) == [
        ".checkpoint",
        ".json",
    ]
    said: list[str] = []
    slow(monkeypatch, train=1e6)  # a second trial is not made: its plan could be another one
    again = quick(images, cache=tmp_path, epochs=2, report=said.append)
    assert said[-1] == "fine-tuning: going on where it was interrupted"
    assert again.plan is not None
    assert again.plan.resumed
    assert again.fine_tuning is not None
    assert whole.fine_tuning is not None
    assert again.fine_tuning.accuracy == whole.fine_tuning.accuracy
    assert fits[-1].selection_ == fits[0].selection_
    for name, value in fits[0].network_.state_dict().items():
        assert np.array_equal(value, fits[-1].network_.state_dict()[name])
    assert again.fine_tuning.energy_kwh is None  # that of the first process is not known
    assert list((tmp_path / "comparisons").iterdir()) == []


def test_checkpoint_other_images_or_settings_differs(tmp_path: Path) -> None:
    images, other = night_and_day(6), night_and_day(6, seed=1)
    grouped = night_and_day(6, groups=True)
    jobs = [
        FineTuning(tuner, data, images, budget, tmp_path)
        for tuner, data, budget in [
            (FineTuner(), images, None),
            (FineTuner(), other, None),
            (FineTuner(), grouped, None),
            (FineTuner(epochs=3), images, None),
            (FineTuner(), images, 60.0),
        ]
    ]
    assert len({job.checkpoint for job in jobs}) == 5
    assert FineTuning(FineTuner(), images, other, None, tmp_path).checkpoint == (
        jobs[0].checkpoint  # the test images have no part in it
    )
    assert FineTuning(FineTuner(), images, other, None, None).checkpoint is None


def test_resumed_plan_damaged_notes_deletes_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "x.checkpoint"
    assert fine_module.resumed_plan(checkpoint) is None
    for notes in ("{", "[]", '{"epochs": 3}', None):
        checkpoint.write_bytes(b"state")
        if notes is None:
            checkpoint.with_suffix(".json").unlink()
        else:
            checkpoint.with_suffix(".json").write_text(notes)
        assert fine_module.resumed_plan(checkpoint) is None
        assert not checkpoint.exists()


def test_note_plan_bad_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "comparisons").write_text("a file")
    with pytest.raises(StorageError, match="comparisons"):
        fine_module.note_plan(
            tmp_path / "comparisons" / "x.checkpoint", FineTuningPlan(3, None, 1.0)
        )


# ------------------------------------------------------------------------------------ the words


def judged(difference: float, p: float, seconds: tuple[float, float]) -> Comparison:
    top, fine = (MethodOutcome(0.9, {"fit": s}, 1.0, 10**9, None) for s in seconds)
    return Comparison(
        backbone="efficientnet_lite0",
        split="test",
        n_train=1200,
        n_test=400,
        n_classes=3,
        n_test_groups=None,
        top_tuning=top,
        fine_tuning=fine,
        skipped=None,
        plan=FineTuningPlan(15, 2e-3, 60.0),
        difference=PairedDifference(difference, difference - 0.016, difference + 0.017, p, 400),
        curve=LearningCurve(
            (CurvePoint(1.0, 1200.0, 1, 0.9, 0.9),), Extrapolation("too few sizes", None, ()), 1.0
        ),
        quarantined=(),
    )


def test_verdict_differences_in_words() -> None:
    found = judged(0.012, 0.2, (20, 1860))
    assert found.verdict == (
        "Fine-tuning gains 1.2 points (95 % interval -0.4 to 2.9: could be chance) and takes "
        "31 minutes instead of 20 seconds (93 times)."
    )
    loss = replace(found, difference=PairedDifference(-0.05, -0.08, -0.02, 0.001, 400))
    assert loss.verdict.startswith(
        "Fine-tuning loses 5.0 points (95 % interval -8.0 to -2.0: beyond chance) and takes"
    )
    even = replace(found, difference=PairedDifference(0.0, -0.01, 0.01, 1.0, 400))
    assert even.verdict.startswith("Fine-tuning is right as often as top-tuning (95 % interval")
    same = replace(found, difference=PairedDifference(0.0, 0.0, 0.0, 1.0, 400))
    assert same.verdict.startswith("Fine-tuning and top-tuning do not differ on these test images")
    assert "(1.5 times)" in judged(0.012, 0.2, (20, 30)).verdict


@pytest.mark.parametrize("fine_tuned", [True, False])
def test_comparison_page_holds_verdict_and_tables(fine_tuned: bool) -> None:
    found = judged(0.012, 0.2, (20, 1860))
    if not fine_tuned:
        found = replace(found, fine_tuning=None, difference=None, skipped="it was not asked for")
    name = '<script>alert("1")</script>'
    page = Page(comparison_page(found, data=name))
    page.check_alone()
    assert f"Comparison on {name}" in page.text
    assert found.verdict in page.text
    assert found.curve.forecast in page.text
    assert ("+1.2 points" in page.text.replace("−", "-")) == fine_tuned
    assert ("93 times" in page.text) == fine_tuned


def test_forecast_each_status_in_words() -> None:
    curve = judged(0.0, 1.0, (1, 2)).curve
    right = replace(curve, points=(replace(curve.points[-1], test_accuracy=1.0),))
    assert right.forecast.startswith("all test images are right already")

    def words(status: Any, *forecasts: Forecast) -> str:
        law = PowerLaw(0.0, 1.0, 0.5) if status == "power law" else None
        return replace(curve, extrapolation=Extrapolation(status, law, forecasts)).forecast

    known, unknown = Forecast(2.0, 0.012, 0.004, 0.021), Forecast(4.0, None, None, None)
    assert words("power law", known, unknown) == (
        "2 times the images: +1.2 points (0.4 to 2.1); 4 times the images: too uncertain to say"
    )
    assert words("flat").startswith("no fall of the error beyond chance")
    assert words("not identified") == "too uncertain to say what more images would bring"
    assert words("too few sizes").startswith("too few images")
