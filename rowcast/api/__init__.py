"""HTTP: what all routes share."""

__all__ = [
    "admission",
    "application",
    "events",
    "gunicorn_worker",
    "schemas",
    "table_bodies",
]
