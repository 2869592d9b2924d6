"""Tasks: classes, several labels per image, or numbers.

Each has the reading of its labels, the answers of a fitted head and their evaluation. Images and
networks are the same for all.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from toptune.evaluation.multilabel import LabelEvaluation, LabelMetrics, evaluate_labels
from toptune.evaluation.regression import NumberEvaluation, evaluate_numbers
from toptune.images import LabelKind
from toptune.tasks.base import Answers, Targets, Task, TaskEvaluation, TaskName
from toptune.tasks.classification import (
    Classification,
    Predictions,
    check_classes,
    training_labels,
    warn_of_lone_images,
)
from toptune.tasks.multilabel import LabelPredictions, Multilabel
from toptune.tasks.regression import NumberPredictions, Regression

TaskChoice: TypeAlias = Literal["auto", "classification", "multilabel", "regression"]
"""A task, or "auto": what the labels look like."""

TASKS: dict[TaskName, type[Task[Any]]] = {
    task.name: task for task in (Classification, Multilabel, Regression)
}
_OF_KIND: dict[LabelKind, TaskName] = {
    "class": "classification",
    "set": "multilabel",
    "number": "regression",
}


def chosen_task(task: TaskChoice, label_kind: LabelKind) -> type[Task[Any]]:
    """Return the task asked for, or the one of the labels' kind.

    Raises
    ------
    ValueError
        If there is no such task.

    Examples
    --------
    >>> chosen_task("auto", "number").name, chosen_task("classification", "number").name
    ('regression', 'classification')
    """
    if task == "auto":
        return TASKS[_OF_KIND[label_kind]]
    if task not in TASKS:
        raise ValueError(f"task must be auto, {', '.join(TASKS)}, got {task!r}")
    return TASKS[task]


__all__ = [
    "TASKS",
    "Answers",
    "Classification",
    "LabelEvaluation",
    "LabelMetrics",
    "LabelPredictions",
    "Multilabel",
    "NumberEvaluation",
    "NumberPredictions",
    "Predictions",
    "Regression",
    "Targets",
    "Task",
    "TaskChoice",
    "TaskEvaluation",
    "TaskName",
    "check_classes",
    "chosen_task",
    "evaluate_labels",
    "evaluate_numbers",
    "training_labels",
    "warn_of_lone_images",
]
