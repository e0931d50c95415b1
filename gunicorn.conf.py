"""How gunicorn serves the API: `gunicorn`, started in this folder, reads this file."""

from pathlib import Path

from gunicorn import glogging

from rowcast.api import gunicorn_worker
from rowcast.config import ConfigurationError, Settings
from rowcast.observability import logs
from rowcast.system import die_with_parent

try:
    settings = Settings.from_environment()
except ConfigurationError as error:
    raise SystemExit(f"rowcast: {error}") from None


class Logger(glogging.Logger):
    """Gunicorn's own lines go where all of Rowcast's go."""

    def setup(self, cfg):
        """Replace gunicorn's handlers by ours."""
        super().setup(cfg)
        logs.configure(settings, "server")
        self.error_log.handlers.clear()
        self.error_log.propagate = True


wsgi_app = "server:create_app()"
bind = settings.bind
workers = settings.server_workers
threads = settings.server_threads
worker_class = gunicorn_worker.Worker
# A parameter may be a column name of a thousand characters, each of which takes up to twelve in a
# URL.
limit_request_line = 8190
logger_class = Logger
# A waiting request holds its thread for up to 30 s.
timeout = 60
graceful_timeout = 35
keepalive = 30
# Nothing is written to the root file system, which may be read-only.
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - memory, not files


def post_fork(server, worker):  # noqa: ARG001 - gunicorn's signature
    """Let no worker hold the port when its master was killed."""
    die_with_parent(server.pid)
