"""Decisions, given class probabilities: costs, thresholds, prediction sets, novelty."""

from toptune.decisions.costs import cost_matrix
from toptune.decisions.rule import DecisionRule
from toptune.decisions.thresholds import apply_thresholds

__all__ = ["DecisionRule", "apply_thresholds", "cost_matrix"]
