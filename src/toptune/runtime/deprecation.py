"""The old public names, all of them, and what forwards them to the new ones with a FutureWarning.

To rename something public, add a row to one of the four tables; nothing in the package itself uses
an old name. `MOVED` is served to `import` by a finder that the root of the package installs;
`RENAMED` by that and, in a module that still exists, by ``__getattr__ = renamed_attributes(...)``;
`METHODS` and `PARAMETERS` by the decorators `with_old_methods` and `with_old_parameters`.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Class = TypeVar("_Class", bound=type)

# Old module -> where its names are now, relative to toptune unless it starts with "toptune_". The
# modules of a moved package have moved with it, unless a row of their own says where to.
MOVED: dict[str, tuple[str, ...]] = {
    "audit": ("reports.audit",),
    "audit.auditing": ("reports.audit.compute",),
    "audit.findings": ("reports.audit.result",),
    "backbone_choice": ("model.backbone_selection",),
    "cautious": ("decisions.rule",),
    "classifier": ("model.fitting", "images.inputs"),
    "compare": ("reports.comparison",),
    "compare.comparison": ("reports.comparison.result",),
    "compare.parts": ("reports.comparison.compute",),
    "compare.running": ("reports.comparison.compute",),
    "compare.top_tuning": ("reports.learning_curve",),
    "demo": ("images.demo",),
    "diagnosis": ("reports.diagnosis",),
    "energy": ("runtime.energy",),
    "explain": ("model.explanation", "reports.explanation"),
    "explain.explaining": ("model.explanation.explain",),
    "explain.page": ("reports.explanation",),
    "explain.support": ("model.explanation.attribution",),
    "extracting": ("features.extractor",),
    "features.embedded": ("features.backbones",),
    "features.pixels": ("features.extract",),
    "features.provenance": ("features.store",),
    "finetune": ("finetuning.estimator",),
    "images.aside": ("images.quarantine",),
    "images.found": ("images.image_set",),
    "images.given": ("images.inputs",),
    "images.label_kinds": ("images.labels",),
    "images.listing": ("images.inputs",),
    "images.sources": ("images.image_set", "images.reading"),
    "images.tree": ("images.folder_tree",),
    "intervals": ("evaluation.intervals",),
    "kernel.bordering": ("kernel.systems.bordering",),
    "kernel.calibration": ("kernel.selection.calibration",),
    "kernel.centers": ("kernel.selection.centers",),
    "kernel.cholesky": ("kernel.linalg.cholesky",),
    "kernel.conjugate_gradient": ("kernel.linalg.conjugate_gradient",),
    "kernel.coverage": ("kernel.drift",),
    "kernel.exact": ("kernel.systems.exact",),
    "kernel.falkon": ("kernel.solvers.falkon",),
    "kernel.group_weights": ("kernel.selection.group_weights",),
    "kernel.left_out": ("kernel.systems.groups",),
    "kernel.nystrom": ("kernel.systems.nystrom",),
    "kernel.planner": ("kernel.selection.planning",),
    "kernel.preconditioner": ("kernel.solvers.preconditioner",),
    "kernel.triangular": ("kernel.linalg.triangular",),
    "kernel.updating": ("kernel.systems.updating",),
    "learning_curve": ("evaluation.learning_curve",),
    "measuring": ("runtime.memory",),
    "metrics": ("evaluation.classification", "evaluation.intervals"),
    "model_file": ("model.file", "model.fitted_model"),
    "naming": ("images.names",),
    "near_duplicates": ("evaluation.near_duplicates",),
    "pages": ("reports.html",),
    "predictions": ("tasks.classification",),
    "progress": ("runtime.progress",),
    "report": ("reports.model",),
    "report.building": ("reports.model.compute",),
    "report.contents": ("reports.model.result",),
    "report.feature_map": ("reports.model.compute",),
    "report.figures": ("reports.model.page",),
    "study": ("toptune_study",),
    "study.analysis": ("toptune_study.analysis", "toptune_study.frames"),
    "study.contents": ("toptune_study.tables",),
    "study.costs": ("toptune_study.analysis", "toptune_study.frames"),
    "study.methods": ("toptune_study.frames",),
    "study.scores": ("toptune_study.frames", "toptune_study.analysis"),
    "tasks.choosing": ("decisions.thresholds",),
    "tasks.label_evaluation": ("evaluation.multilabel",),
    "tasks.number_evaluation": ("evaluation.regression",),
    "tensor_file": ("runtime.tensor_file",),
    "thresholds": ("decisions.thresholds",),
    "training": ("finetuning.training",),
    "trust": ("decisions", "evaluation"),
    "trust.conformal": ("decisions.prediction_sets",),
    "trust.labels": ("evaluation.label_errors",),
    "trust.leakage": ("evaluation.near_duplicates",),
    "trust.novelty": ("decisions.novelty",),
    "updates": ("model.updates",),
    "versions": ("runtime.versions",),
}

# Old name of a function, class or constant, below its old or its present module -> the new one.
RENAMED: dict[str, str] = {
    "backbone_choice.Candidacy": "model.backbone_selection.BackboneScore",
    "compare.Curve": "reports.learning_curve.LearningCurve",
    "compare.comparison.Curve": "reports.learning_curve.LearningCurve",
    "explain.Support": "model.explanation.attribution.Attribution",
    "explain.support.Support": "model.explanation.attribution.Attribution",
    "model_file.Model": "model.fitted_model.FittedModel",
    "study.analysis.LeaveOneOut": "toptune_study.analysis.LeaveOneOutBias",
    "study.analysis.PairedDifference": "toptune_study.analysis.MethodDifference",
    "study.analysis.leave_one_out": "toptune_study.analysis.leave_one_out_bias",
    "study.analysis.paired_difference": "toptune_study.analysis.compare_methods",
    "study.analysis.ranking": "toptune_study.analysis.rank_methods",
    "study.runner.Status": "toptune_study.runner.StudyStatus",
}

# Class -> old method or attribute -> the new one. The class is decorated with `with_old_methods`.
METHODS: dict[str, dict[str, str]] = {
    "Backbone": {"groups": "layers"},
    "Features": {"image_groups": "groups"},
    "KernelClassifier": {
        "fit_like": "fit_with_centers",
        "kept_state": "update_state",
        "merged": "merge",
        "reselected": "reselect_penalty",
        "restore_kept": "restore_update_state",
        "with_samples": "add_samples",
        "without_samples": "remove_samples",
    },
}

# Function, by its qualified name -> old parameter -> the new one. The function is decorated with
# `with_old_parameters`.
PARAMETERS: dict[str, dict[str, str]] = {
    "FineTuner.fit": {"images": "data", "paths": "data"},
    "TopTuner.fit": {"images": "data", "paths": "data"},
    "TopTuner.partial_fit": {"images": "data", "paths": "data"},
}


def warn_of_old_name(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that `old` will go, at the line that called the function which calls this one."""
    message = f"{old} is deprecated and will be removed in 0.3: use {new}"
    warnings.warn(message, FutureWarning, stacklevel=stacklevel)


def full_name(name: str) -> str:
    """Return the dotted name that a name of the tables stands for."""
    return name if name.split(".")[0] == "toptune_study" else f"toptune.{name}"


def moved_to(module: str) -> tuple[str, ...]:
    """Return the modules that hold the names of an old module now, none if it has not moved."""
    if module in MOVED:
        return tuple(map(full_name, MOVED[module]))
    package, _, leaf = module.rpartition(".")
    names = (f"{name}.{leaf}" for name in moved_to(package)) if package else ()
    return tuple(name for name in names if find_spec(name) is not None)


def _attribute(name: str) -> Any:
    """Import the object of a dotted name."""
    module, _, leaf = name.rpartition(".")
    return getattr(import_module(module), leaf)


def renamed_attributes(module: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of a module of which rows of `RENAMED` speak.

    Write it below ``if not TYPE_CHECKING:``, or type checkers take any name for one of the module.
    """

    def get(name: str) -> Any:
        old = f"{module}.{name}"
        if (new := RENAMED.get(old.removeprefix("toptune."))) is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_of_old_name(old, full_name(new))
        return _attribute(full_name(new))

    return get


class _OldModule(ModuleType):
    """A module that has moved: its names are looked up where they are now."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        old = f"{self.__name__}.{name}".removeprefix("toptune.")
        if old in RENAMED:
            return _attribute(full_name(RENAMED[old]))
        for target in moved_to(self.__name__.removeprefix("toptune.")):
            module = import_module(target)
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Finder:
    """Find the old modules, and load them as forwarding ones: methods that `import` calls."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith("toptune.") or not moved_to(name.removeprefix("toptune.")):
            return None
        return ModuleSpec(name, _Finder(), is_package=True)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        return _OldModule(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        new = " and ".join(moved_to(module.__name__.removeprefix("toptune.")))
        warn_of_old_name(f"the module {module.__name__}", new)


def serve_old_modules() -> None:
    """Let `import` find the old modules.

    First of all finders, because a folder that was left empty by an update would be found as a
    package.
    """
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def with_old_methods(owner: _Class) -> _Class:
    """Give a class the old names of its methods and attributes, which are rows of `METHODS`."""
    for old, new in METHODS[owner.__name__].items():
        setattr(owner, old, _old_member(owner.__name__, old, new))
    return owner


def _old_member(owner: str, old: str, new: str) -> property:
    """Make the property that stands for an old method or attribute: a bound method, or a value."""

    def get(self: Any) -> Any:
        warn_of_old_name(f"{owner}.{old}", f"{owner}.{new}")
        return getattr(self, new)

    return property(get, doc=f"Deprecated: use `{new}`.")


def with_old_parameters(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a function take its old parameters, which are rows of `PARAMETERS`, by keyword."""
    new_names = PARAMETERS[function.__qualname__]

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        for old in new_names.keys() & kwargs.keys():
            new, value = new_names[old], kwargs.pop(old)
            if value is None:  # what the old parameter was by default
                continue
            warn_of_old_name(f"{old}= of {function.__qualname__}", f"{new}=")
            if kwargs.get(new) is not None:
                raise TypeError(f"{function.__qualname__}: {old} is the old name of {new}")
            kwargs[new] = value
        return function(*args, **kwargs)

    return call
