"""HTTP: what the routes share, and the routes of each resource."""

__all__ = [
    "admission",
    "answers",
    "application",
    "authentication",
    "events",
    "gunicorn_worker",
    "idempotency",
    "lookups",
    "online_predictions",
    "openapi",
    "presigning",
    "quotas",
    "routes",
    "schemas",
    "state",
    "table_bodies",
    "waiting",
]
