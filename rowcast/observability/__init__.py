"""What the processes report about their work: logs, and an audit log."""

from rowcast.observability.audit import AuditLog

__all__ = [
    "AuditLog",
    "audit",
    "logs",
]
