"""Evaluation of a model: accuracy, confusions, calibration, learning curve, doubtful labels."""

from toptune.reports.model.compute import build_report
from toptune.reports.model.page import report_page
from toptune.reports.model.result import Disagreement, FeatureMap, Report

__all__ = ["Disagreement", "FeatureMap", "Report", "build_report", "report_page"]
