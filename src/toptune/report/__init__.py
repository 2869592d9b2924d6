"""What a model is worth, on one page: accuracy, confusions, probabilities, errors, doubtful labels.

`building` asks the model, `page` draws the answers.
"""

from toptune.report.building import build_report
from toptune.report.contents import Disagreement, FeatureMap, Report
from toptune.report.page import report_page

__all__ = ["Disagreement", "FeatureMap", "Report", "build_report", "report_page"]
