"""What is wrong with a labelled data set: doubtful labels, contradictory copies, leaking splits."""

from toptune.audit.auditing import audit
from toptune.audit.findings import Audit, AuditedImage, SuspectedImage
from toptune.audit.page import audit_page

__all__ = ["Audit", "AuditedImage", "SuspectedImage", "audit", "audit_page"]
