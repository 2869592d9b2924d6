"""Decisions, given class probabilities: costs, thresholds, prediction sets, novelty."""

from toptune.decisions.costs import apply_thresholds, cost_matrix

__all__ = ["apply_thresholds", "cost_matrix"]
