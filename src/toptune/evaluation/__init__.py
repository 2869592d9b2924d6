"""Evaluation: predictions and the truth, as numbers."""
