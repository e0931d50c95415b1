"""The proxies of deploy/proxy/, run with their shipped configurations on free ports."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trustme

from tests.support import ROOT
from tests.support.waiting import eventually

CONFIGURATIONS = ROOT / "deploy" / "proxy"


@dataclass
class Proxy:
    """A running proxy: the two addresses behind it, and the authority of its certificates."""

    url: str
    store_url: str
    authority: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serves(port: int, authority: Path) -> bool:
    """Return whether a proxy listens, and has got its certificate."""
    context = ssl.create_default_context(cafile=authority)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as bare,
            context.wrap_socket(bare, server_hostname="localhost"),
        ):
            return True
    except OSError:
        return False


def replaced(name: str, changes: dict[str, str]) -> str:
    """Return a shipped configuration with changes, each of which must find its place."""
    text = (CONFIGURATIONS / name).read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def caddy(
    folder: Path, ports: tuple[int, int], server: str, store: str
) -> Iterator[Path]:
    program = Path(sysconfig.get_path("scripts")) / "caddy"
    # Without an authority in the internet, and without port 80.
    options = f"admin off\n\tskip_install_trust\n\thttp_port {free_port()}"
    configuration = folder / "Caddyfile"
    configuration.write_text(replaced("Caddyfile", {"admin off": options}))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "ROWCAST_HOST": f"localhost:{ports[0]}",
        "STORE_HOST": f"localhost:{ports[1]}",
        "ROWCAST_UPSTREAM": server,
        "STORE_UPSTREAM": store,
    }
    command = [str(program), "run", "--adapter", "caddyfile"]
    command += ["--config", str(configuration)]
    with running(command, folder, environment):
        root = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        eventually(root.exists, timeout_s=20)
        yield root


@contextmanager
def nginx(
    folder: Path, ports: tuple[int, int], server: str, store: str
) -> Iterator[Path]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not program:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "key.pem"))
    public = "listen 443 ssl;\n    server_name "
    shipped = replaced(
        "nginx.conf",
        {
            f"{public}rowcast.example.org;": f"listen 127.0.0.1:{ports[0]} ssl;",
            f"{public}s3.example.org;": f"listen 127.0.0.1:{ports[1]} ssl;",
            "127.0.0.1:8080": server,
            "127.0.0.1:9000": store,
            "/etc/ssl/rowcast/certificate.pem": str(folder / "key.pem"),
            "/etc/ssl/rowcast/key.pem": str(folder / "key.pem"),
        },
    )
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"pid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}\n{shipped}\n}}\n"
    )
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(configuration)]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with running([*command, "-g", "daemon off;"], folder, dict(os.environ)):
        yield folder / "authority.pem"


PROXIES = {"caddy": caddy, "nginx": nginx}


@contextmanager
def running(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[None]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=environment
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def proxy(
    name: str, folder: Path, ports: tuple[int, int], server: str, store: str
) -> Iterator[Proxy]:
    """Run a proxy of PROXIES on two ports, before a server and a store (host:port)."""
    with PROXIES[name](folder, ports, server, store) as authority:
        for port in ports:
            eventually(partial(serves, port, authority), timeout_s=20)
        urls = [f"https://localhost:{port}" for port in ports]
        yield Proxy(urls[0], urls[1], authority)
