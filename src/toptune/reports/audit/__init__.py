"""Audit of a labelled data set: doubtful labels, contradictory copies, leaking splits."""

from toptune.reports.audit.compute import audit
from toptune.reports.audit.page import audit_page
from toptune.reports.audit.result import Audit, AuditedImage, SuspectedImage

__all__ = ["Audit", "AuditedImage", "SuspectedImage", "audit", "audit_page"]
