"""The routes that the picture does not name, one file a resource."""

from rowcast.api.routes import datasets, documents, health, jobs, keys, models, results

__all__ = ["datasets", "documents", "health", "jobs", "keys", "models", "results"]
