"""SeaweedFS, an S3 store of another make, which knows users with policies."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import urllib3
from minio import Minio

from tests.support.certificates import Certificates
from tests.support.waiting import eventually

ADMIN = ("admin-access-key", "admin-secret-key")
N_PORTS = 8


class SeaweedFS:
    """A store on loopback; use it in `with`."""

    def __init__(
        self,
        folder: Path,
        policies: dict[str, str],
        certificates: Certificates,
        *,
        forms: dict[str, str] | None = None,
    ) -> None:
        """Take users by name.

        `policies`: a user's name and the policy, as JSON, that holds for it. `forms`: the bucket
        that a user signs forms for; SeaweedFS does not look at policies there.
        """
        self.certificates = certificates
        self.folder = folder
        self.ports = free_ports(N_PORTS)
        self.policies = policies
        self.forms = forms or {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports[0]}"

    def keys_of(self, user: str) -> tuple[str, str]:
        """Return the access key and the secret key of a user."""
        return f"{user}-access-key", f"{user}-secret-key"

    def client(self, access_key: str, secret_key: str) -> Minio:
        address = self.url.removeprefix("https://")
        pool = urllib3.PoolManager(ca_certs=str(self.certificates.authority))
        return Minio(
            address, access_key, secret_key, region="us-east-1", http_client=pool
        )

    def __enter__(self) -> SeaweedFS:
        configuration = self.folder / "s3.json"
        configuration.write_text(json.dumps(self._users()))
        (self.folder / "data").mkdir()
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                self._command(configuration), stdout=log, stderr=log
            )
        eventually(self._answers, timeout_s=60)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        try:
            self.client(*ADMIN).list_buckets()
        except Exception:  # noqa: BLE001 - whatever it is, the store is not ready
            return False
        return True

    def _users(self) -> dict[str, Any]:
        admin = {"name": "admin", "actions": ["Admin", "Read", "Write", "List"]}
        identities = [{**admin, "credentials": [_credentials(*ADMIN)]}]
        for user in self.policies:
            credentials = [_credentials(*self.keys_of(user))]
            identity = {"name": user, "credentials": credentials, "policyNames": [user]}
            if user in self.forms:
                identity["actions"] = [f"Write:{self.forms[user]}"]
            identities.append(identity)
        policies = [
            {"name": user, "content": text} for user, text in self.policies.items()
        ]
        return {"identities": identities, "policies": policies}

    def _command(self, configuration: Path) -> list[str]:
        names = (
            "s3.port",
            "s3.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
        )
        ports = [
            f"-{name}={port}" for name, port in zip(names, self.ports, strict=True)
        ]
        return [
            str(Path(sys.executable).parent / "weed"),
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self.folder / 'data'}",
            "-s3",
            "-filer",
            f"-s3.config={configuration}",
            f"-s3.cert.file={self.certificates.certificate}",
            f"-s3.key.file={self.certificates.key}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=50",
            *ports,
        ]


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _credentials(access_key: str, secret_key: str) -> dict[str, str]:
    return {"accessKey": access_key, "secretKey": secret_key}
