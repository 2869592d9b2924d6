"""The old public names: each works, warns, and is used by nothing in the package."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import toptune
from toptune.runtime import deprecation
from toptune.runtime.deprecation import (
    METHODS,
    MOVED,
    PARAMETERS,
    RENAMED,
    full_name,
    moved_to,
    with_old_methods,
    with_old_parameters,
)

# What version 0.1.0 documented: the modules with an `__all__`, and what others imported by name.
PUBLIC = {
    "toptune": "DataError Features FineTuner KernelClassifier TopTuner ToptuneError __version__",
    "toptune.backbone_choice": "compare_backbones choose_backbone Candidacy",
    "toptune.audit": "Audit AuditedImage SuspectedImage audit audit_page",
    "toptune.compare": "Comparison Curve CurvePoint FineTuningPlan MethodOutcome compare",
    "toptune.decisions": "apply_thresholds cost_matrix",
    "toptune.energy": "EnergyMeter energy_available",
    "toptune.explain": "ClassShare Explanation Occlusion Support TrainingImage covered "
    "explain_image explanation_page score_drops support_of",
    "toptune.features": "Backbone BackboneInfo Engine FeatureCache Features OpenVINOEngine "
    "Preprocessing TorchEngine cache_dir extract list_backbones load_backbone make_engine",
    "toptune.finetune": "FineTuner",
    "toptune.images": "Geometry ImageSet ImageSource Images LabelKind Quarantined UnreadableImage "
    "content_hash decode decode_within folder_of from_arrays image_files labelled_images "
    "open_images open_unlabelled read_source splits_of stratified_split unlabelled_images "
    "with_folder",
    "toptune.kernel": "KERNELS Candidate ChangeableClassifier FeatureNormalizer KernelClassifier "
    "KernelRegressor MemoryBudgetError Rows ScoreTerms SharingClassifier",
    "toptune.intervals": "share_interval",
    "toptune.metrics": "evaluate_probabilities expected_calibration_error paired_difference "
    "reliability_table",
    "toptune.predictions": "Predictions",
    "toptune.report": "Disagreement FeatureMap Report build_report report_page",
    # Without the containers whose place data frames have taken.
    "toptune.study.analysis": "LeaveOneOut Method PairedDifference Ranking ScoreTable TimeRatio "
    "energy_totals image_differences leave_one_out mean_seconds paired_difference ranking "
    "score_table time_ratio training_seconds",
    "toptune.tasks": "TASKS Classification LabelEvaluation LabelMetrics LabelPredictions "
    "Multilabel NumberEvaluation NumberPredictions Regression Targets Task TaskChoice TaskName "
    "check_classes chosen_task evaluate_labels evaluate_numbers training_labels "
    "warn_of_lone_images",
    "toptune.study.datasets": "load_dataset",
    "toptune.study.records": "read_records",
    "toptune.tensor_file": "save_tensors load_tensors",
    "toptune.trust.conformal": "conformal_quantile set_threshold",
    "toptune.trust.labels": "label_suspicion suspected_labels weak_evidence",
    "toptune.trust.novelty": "unknown_scorer",
}


@pytest.mark.filterwarnings("ignore:.* is deprecated:FutureWarning")
@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_of_the_first_version_resolve(module: str) -> None:
    loaded = import_module(module)
    missing = [name for name in PUBLIC[module].split() if not hasattr(loaded, name)]
    assert not missing


@pytest.mark.parametrize("old", MOVED)
def test_old_module_imported_warns_and_names_the_new_one(old: str) -> None:
    sys.modules.pop(f"toptune.{old}", None)
    with pytest.warns(FutureWarning, match=f"toptune.{old} .*{full_name(MOVED[old][0])}") as seen:
        module = import_module(f"toptune.{old}")
    assert module.__name__ == f"toptune.{old}"
    assert any(warning.filename == __file__ or "importlib" in warning.filename for warning in seen)
    for new in moved_to(old):
        names = [name for name in vars(import_module(new)) if not name.startswith("_")]
        assert all(hasattr(module, name) for name in names)


@pytest.mark.filterwarnings("ignore:.* is deprecated:FutureWarning")
@pytest.mark.parametrize("old", RENAMED)
def test_old_name_of_a_function_or_class_is_the_new_one(old: str) -> None:
    module, _, name = full_name(old).rpartition(".")
    new_module, _, new_name = full_name(RENAMED[old]).rpartition(".")
    assert getattr(import_module(module), name) is getattr(import_module(new_module), new_name)


@pytest.mark.filterwarnings("ignore:.* is deprecated:FutureWarning")
def test_module_of_a_moved_package_moves_with_it() -> None:
    old = import_module("toptune.training.recipe")
    assert old.Recipe is import_module("toptune.finetuning.training.recipe").Recipe
    with pytest.raises(ModuleNotFoundError, match=r"toptune\.training\.nothing"):
        import_module("toptune.training.nothing")


@pytest.mark.filterwarnings("ignore:.* is deprecated:FutureWarning")
def test_old_module_asked_for_an_unknown_name_raises() -> None:
    with pytest.raises(AttributeError, match=r"toptune\.metrics.*evalute"):
        import_module("toptune.metrics").evalute  # noqa: B018


def test_nothing_in_the_package_uses_an_old_name() -> None:
    source = Path(toptune.__file__).parent
    names = [
        ".".join(path.relative_to(source.parent).with_suffix("").parts)
        for path in sorted(source.rglob("*.py"))
    ]
    code = f"""
import importlib, warnings
warnings.filterwarnings("error", ".* is deprecated and will be removed in 0", FutureWarning)
for name in {names}:
    importlib.import_module(name.removesuffix(".__init__"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_old_method_warns_and_calls_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "Counter", {"plus": "add", "amount": "total"})

    @with_old_methods
    class Counter:
        total = 0

        def add(self, number: int) -> int:
            self.total += number
            return self.total

    counter = Counter()
    with pytest.warns(FutureWarning, match=r"Counter\.plus .*Counter\.add") as seen:
        assert counter.plus(2) == 2  # type: ignore[attr-defined]
    assert seen[0].filename == __file__
    with pytest.warns(FutureWarning, match=r"Counter\.amount .*Counter\.total"):
        assert counter.amount == 2  # type: ignore[attr-defined]


def test_old_parameter_warns_and_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARAMETERS, "read", {"paths": "data"})

    def read(data: object = None, labels: object = None) -> tuple[object, object]:
        return data, labels

    read.__qualname__ = "read"
    call = with_old_parameters(read)
    assert call("x", labels=1) == ("x", 1)
    with pytest.warns(FutureWarning, match="paths= of read .*data=") as seen:
        assert call(paths="x", labels=1) == ("x", 1)  # type: ignore[call-arg]
    assert seen[0].filename == __file__
    assert call("x", paths=None) == ("x", None)  # type: ignore[call-arg]
    with (
        pytest.warns(FutureWarning, match="paths="),
        pytest.raises(TypeError, match=r"paths .*data"),
    ):
        call(data="x", paths="y")  # type: ignore[call-arg]


def test_every_row_of_methods_and_parameters_has_its_decorator() -> None:
    """A row alone does nothing: the class or function must have asked for it."""
    text = "".join(
        path.read_text(encoding="utf-8") for path in Path(toptune.__file__).parent.rglob("*.py")
    )
    for owner in METHODS:
        assert f"@with_old_methods\nclass {owner}" in text, owner
    for function in PARAMETERS:
        assert f"@with_old_parameters\n    def {function.rpartition('.')[2]}(" in text, function


def test_finder_is_installed_once() -> None:
    before = list(sys.meta_path)
    deprecation.serve_old_modules()
    assert sys.meta_path == before
