"""What the processes report about their work: logs, and an audit log."""

from rowcast.observability.audit import AuditLog, FloodGate

__all__ = [
    "AuditLog",
    "FloodGate",
    "audit",
    "logs",
]
