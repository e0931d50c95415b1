"""The configuration of gunicorn, which reads this file when it starts in this folder."""

import resource
from pathlib import Path

from gunicorn import glogging

from rowcast.api import gunicorn_worker, state
from rowcast.config import ConfigurationError, Settings
from rowcast.observability import AuditLog, logs
from rowcast.system import die_with_parent, sandbox

try:
    settings = Settings.from_environment()
    AuditLog(settings.audit_log).check()
except OSError as error:
    raise SystemExit(
        f"rowcast: AUDIT_LOG cannot be written: {error.strerror}"
    ) from None
except ConfigurationError as error:
    raise SystemExit(f"rowcast: {error}") from None


class Logger(glogging.Logger):
    """Gunicorn's logger, which passes its lines to Rowcast's."""

    def setup(self, cfg):
        """Replace gunicorn's handlers with ours."""
        super().setup(cfg)
        logs.configure(settings, "server")
        self.error_log.handlers.clear()
        self.error_log.propagate = True


wsgi_app = "server:create_app()"
bind = settings.bind
workers = settings.server_workers
threads = settings.server_threads
worker_class = gunicorn_worker.Worker
# A parameter may be a column name of a thousand characters, each up to twelve in a URL.
limit_request_line = 8190
logger_class = Logger
# A request that waits for a job keeps its thread for up to 30 s.
timeout = 60
graceful_timeout = 35
keepalive = 30
# No header sets the scheme or the path. rowcast/api/origins.py believes TRUSTED_PROXIES the rest.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers = {}
# Sending a file directly would hold a thread until the caller has read it.
sendfile = False
# Many connections may wait in parallel; each takes a file descriptor. Beyond that, those that have
# waited longest are closed.
worker_connections = 1000
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(_soft, min(_hard, 4096)), _hard))
# The root file system may be read-only, so nothing is written to it.
control_socket_disable = True
# A folder in memory, not of temporary files.
shared_memory = Path("/dev/shm")  # noqa: S108 # nosec B108
worker_tmp_dir = str(shared_memory) if shared_memory.is_dir() else None


def on_starting(server):  # noqa: ARG001 - gunicorn's signature
    """Warn once for the inspectors of all workers."""
    sandbox.warn_if_missing()


def post_fork(server, worker):  # noqa: ARG001 - gunicorn's signature
    """End a worker whose master was killed, because it would keep the port."""
    die_with_parent(server.pid)


def post_worker_init(worker):
    """Start the inspectors while the worker starts."""
    state.start(worker.app.callable)
