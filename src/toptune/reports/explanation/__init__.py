"""Explanation of one prediction as a page; it is computed by `toptune.model.explanation`."""

from toptune.reports.explanation.page import explanation_page, heat_map

__all__ = ["explanation_page", "heat_map"]
