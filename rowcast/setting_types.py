"""The types of settings: how a variable's text is parsed, and which values are refused."""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

OWNER_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
OWNER = re.compile(OWNER_PATTERN)
_HOST = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_API_KEY = re.compile(r"[!-~]{8,}")
_ED25519_KEY = re.compile(r"[A-Za-z0-9_-]{43}")


def _strict_bool(value: Any) -> Any:
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("must be exactly true or false")
    return value


def _split(value: Any) -> Any:
    """Split a comma-separated list, and drop its empty parts."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",")]
    return tuple(part for part in parts if part)


def _endpoint(value: str) -> str:
    parts = urlsplit(value)
    is_origin = parts.scheme in ("http", "https") and parts.hostname
    has_more = "@" in parts.netloc or parts.path.strip("/") or parts.query
    if not is_origin or has_more or not _has_good_port(parts):
        raise ValueError(
            "must be like http://host:9000, without a path, user or password"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(
            "each entry must be a host name in lower case, like rowcast.example.org, without "
            "scheme, port or path"
        )
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError(
            "each entry must be an address or a network, like 127.0.0.1 or 172.16.0.0/12"
        ) from None


def _redis_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    is_host = parts.scheme in ("redis", "rediss") and parts.hostname
    is_socket = parts.scheme == "unix" and parts.path
    if not (is_host or is_socket) or not _has_good_port(parts):
        raise ValueError("must be like redis://:password@host:6379/0")
    return value


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 65536):
        raise ValueError("must be like 127.0.0.1:8080")
    return value


def _owner_and_key(value: SecretStr) -> SecretStr:
    owner, _, key = value.get_secret_value().partition(":")
    if not OWNER.fullmatch(owner) or not _API_KEY.fullmatch(key):
        raise ValueError(
            "each entry must be owner:key; an owner has lower-case letters, digits, - and _, "
            "a key has at least 8 printable ASCII characters and no spaces"
        )
    return value


def _hmac_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 16:
        raise ValueError("each key must have at least 16 characters")
    return value


def ed25519_bytes(kind: Literal["private", "public"], text: str) -> bytes:
    """Return the 32 bytes of a key such as `ed25519-public-mN3r...`. Raises ValueError."""
    start = f"ed25519-{kind}-"
    encoded = text.removeprefix(start)
    is_one = text.startswith(start) and _ED25519_KEY.fullmatch(encoded)
    key = base64.urlsafe_b64decode(f"{encoded}=") if is_one else b""
    if len(key) != 32:
        raise ValueError(
            f"must be {start} and 43 characters, as `python3 deploy/make_env.py signing-key` "
            "prints"
        )
    return key


def _private_key(value: SecretStr) -> SecretStr:
    ed25519_bytes("private", value.get_secret_value())
    return value


def _public_key(value: str) -> str:
    ed25519_bytes("public", value)
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    owner, _, secret = value.get_secret_value().rpartition(":")
    is_owner = not owner or OWNER.fullmatch(owner)
    if not is_owner or not 24 <= _n_secret_bytes(secret) <= 64:
        raise ValueError(
            "each entry must be whsec_<base64> or owner:whsec_<base64>, of 24 to 64 random bytes"
        )
    return value


_QUOTAS = (
    *("datasets", "models", "results", "stored_bytes"),
    *("queued_jobs", "queued_bytes", "key_requests_per_minute"),
)


def _quota(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    owner, _, rest = value.partition(":")
    name, _, limit = rest.partition("=")
    is_known = OWNER.fullmatch(owner) and name in _QUOTAS
    if not is_known or not re.fullmatch(r"[0-9]{1,18}", limit):
        raise ValueError(
            f"each entry must be owner:name=number, with a name of {', '.join(_QUOTAS)}"
        )
    return owner, name, int(limit)


def _n_secret_bytes(secret: str) -> int:
    """Return the length of a webhook secret, 0 for text that is not one."""
    if not secret.startswith("whsec_"):
        return 0
    try:
        return len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except ValueError:
        return 0


Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Days = Annotated[float, Field(ge=0, le=36_500)]
UrlTtl = Annotated[int, Field(ge=1, le=604_800)]
Bool = Annotated[bool, BeforeValidator(_strict_bool)]
Address = Annotated[str, AfterValidator(_address)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_host)], ...],
    NoDecode,
    BeforeValidator(_split),
]
Networks = Annotated[
    tuple[Annotated[str, AfterValidator(_network)], ...],
    NoDecode,
    BeforeValidator(_split),
]
ApiKeys = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_owner_and_key)], ...],
    NoDecode,
    BeforeValidator(_split),
]
PrivateKey = Annotated[SecretStr, AfterValidator(_private_key)]
PublicKeys = Annotated[
    tuple[Annotated[str, AfterValidator(_public_key)], ...],
    NoDecode,
    BeforeValidator(_split),
]
HmacKeys = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_hmac_key)], ...],
    NoDecode,
    BeforeValidator(_split),
]
WebhookSecrets = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_webhook_secret)], ...],
    NoDecode,
    BeforeValidator(_split),
]
Bucket = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
Quotas = Annotated[
    tuple[Annotated[tuple[str, str, int], BeforeValidator(_quota)], ...],
    NoDecode,
    BeforeValidator(_split),
]
