"""Webhooks: the final status of a job is POSTed to its `callback_url`, signed as Standard Webhooks
has it.

What is to be sent stands in Redis: `rowcast:webhooks`, a sorted set of names by the time when they
are due, and a hash `rowcast:webhook:<name>` each. The name is the job's id; where a job that had
ended is told to one more URL (`reuse`), `<id>:<digest of the URL>`. Whoever sends moves the time by
a lease first, so that several maintenance processes never send the same at once, and what a killed one had begun
is due again. So a receiver gets each webhook at least once, always under the same `webhook-id`.

A URL is given by a caller, so it must not lead into our own network. Names are resolved once, right
before sending, and the connection goes to the very address that was judged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import logging
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import redis

from rowcast import __version__
from rowcast.config import Settings
from rowcast.errors import InvalidRequest, RowcastError
from rowcast.observability import logs

log = logging.getLogger("rowcast.webhooks")

# What /status answers for an owner and a job, None where the job was deleted.
ReadStatus = Callable[[str, str], dict[str, Any] | None]

DUE = "rowcast:webhooks"
GIVE_UP_S, KEPT_S = 3600.0, 24 * 3600
FIRST_PAUSE_S, PAUSE_GROWTH, LONGEST_PAUSE_S = 5.0, 3.0, 600.0
# A delivery takes less than a lease: preparing, then connecting to two addresses at most, then the
# exchange.
LEASE_S = 30.0
PREPARE_S, CONNECT_S, EXCHANGE_S = 8.0, 5.0, 10.0
MOST_ANSWER_BYTES = 4096
# A delivery that hangs holds one thread for up to a lease.
N_THREADS = 8
# A receiver that takes longer than this rests for so many times as long, so that however many
# webhooks it is to get, it holds the threads for a quarter of the time at most.
SLOW_S, REST = 3.0, 3.0

# Part of every script that ends a job which has a callback_url; `now` in Unix seconds.
ENQUEUE = f"""
local function enqueue_webhook(name, owner, url, now)
  local key = 'rowcast:webhook:' .. name
  redis.call('HSET', key, 'owner', owner, 'url', url, 'since', now)
  redis.call('EXPIRE', key, {KEPT_S})
  redis.call('ZADD', '{DUE}', now, name)
end
"""

# One owner's receiver, by which others' webhooks are not held up.
_RESTING = """
local function resting(owner, url)
  return 'rowcast:webhooks:resting:' .. owner .. ':' .. (string.match(url, '^%a+://[^/?#]*') or '')
end
"""

# The try is counted before it is made, so that one which kills its maintenance process is not repeated for ever.
# Webhooks whose receiver rests are due when it has; so many are looked at that Redis answers within
# milliseconds.
_CLAIM = f"""{_RESTING}
for _ = 1, 1000 do
  local name = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)[1]
  if not name then return false end
  local key = 'rowcast:webhook:' .. name
  local owner, url = unpack(redis.call('HMGET', key, 'owner', 'url'))
  local rest_ms = owner and redis.call('PTTL', resting(owner, url))
  if not owner then
    redis.call('ZREM', KEYS[1], name)
  elseif rest_ms > 0 then
    redis.call('ZADD', KEYS[1], ARGV[1] + rest_ms / 1000, name)
  else
    redis.call('ZADD', KEYS[1], ARGV[2], name)
    redis.call('HINCRBY', key, 'tries', 1)
    return {{name, owner, url, unpack(redis.call('HMGET', key, 'since', 'tries'))}}
  end
end
return false
"""

_REST = f"{_RESTING} redis.call('SET', resting(ARGV[1], ARGV[2]), 1, 'PX', ARGV[3])"

# Whose lease has run out leaves the time to the one that has taken over.
_POSTPONE = """
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or -1) == tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
"""

_URL = re.compile(r"(https?)://([^/?#]*)(/[^?#]*)?(\?[^#]*)?(#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]+))?", re.IGNORECASE)
_NO_URL_TEXT = re.compile(r"[^!-~]|\\")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# Resolvers read 0x7f.1, 127.1 and 2130706433 as addresses; no name ends in a number.
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_MOST_CHARACTERS = 2000

# Not reachable from the internet, or not one receiver (IANA's registries of special-purpose
# addresses), and 168.63.129.16, at which Azure serves its machines what is private to them.
_PRIVATE_IPV4 = [
    ipaddress.IPv4Network(network)
    for network in (
        *(
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
        ),
        *(
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
        ),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "168.63.129.16/32"),
    )
]
# Of IPv6 all but the global addresses; of these those of protocols (such as Teredo), examples and
# 6to4.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_PRIVATE_IPV6 = [
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
# Where a network without IPv4 has the addresses of the IPv4 internet: the last 32 bits (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Target:
    """A URL in parts; `host` is a name or an address without brackets, `path` includes the
    query."""

    is_tls: bool
    authority: str
    host: str
    port: int
    path: str


@dataclass(frozen=True)
class Delivery:
    """A webhook that is ours to send until `lease`; `since` is when its job ended. Both in Unix
    seconds."""

    name: str
    owner: str
    url: str
    since: float
    tries: int
    lease: float

    @property
    def job_id(self) -> str:
        """The job whose end is told."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Outcome:
    """What became of a try, in words for the log; the receiver may have asked for a pause."""

    is_over: bool
    words: str
    asked_pause_s: float = 0.0


def check(url: str, settings: Settings, owner: str) -> None:
    """Refuse a `callback_url` before there is a job; asks no name server.

    Raises:
        InvalidRequest: it is no URL that can be called, it is a private address, or nothing would
            sign.
    """
    target = parse(url)
    if not settings.webhook_allow_private and _is_private_host(target.host):
        problem = "callback_url must not lead to a private address."
        hint = (
            "Name a host that the internet reaches, or ask the operator to set "
            "WEBHOOK_ALLOW_PRIVATE=true."
        )
        raise InvalidRequest(problem, hint=hint, errors=[problem])
    if not secrets_of(owner, settings):
        problem = "callback_url cannot be used: this service has no secret to sign webhooks with."
        hint = "Leave callback_url out, or ask the operator to set WEBHOOK_SECRETS."
        raise InvalidRequest(problem, hint=hint, errors=[problem])


def parse(url: str) -> Target:
    """Take a URL apart.

    Raises:
        InvalidRequest: with every problem; none quotes the URL, which may hold a secret.
    """
    if problems := list(_problems(url)):
        found = [f"callback_url {problem}." for problem in problems]
        raise InvalidRequest(" ".join(found), errors=found)
    scheme, authority, path, query, _ = _match(_URL, url)
    host, port = _match(_AUTHORITY, authority)
    is_tls = scheme.lower() == "https"
    bare = host.lower().strip("[]").removesuffix(".")
    return Target(
        is_tls,
        authority,
        bare,
        int(port or (443 if is_tls else 80)),
        (path or "/") + query,
    )


def _match(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.fullmatch(text)
    return found.groups("") if found else ("",) * pattern.groups


def _problems(url: str) -> Iterator[str]:
    scheme, authority, _, _, fragment = _match(_URL, url)
    host, port = _match(_AUTHORITY, authority)
    if len(url) > _MOST_CHARACTERS:
        yield f"must have at most {_MOST_CHARACTERS} characters"
    if _NO_URL_TEXT.search(url):
        yield (
            "must be ASCII without spaces and backslashes; write all else as %XX, and a name "
            "in Punycode"
        )
    elif not scheme:
        yield "must begin with https:// or http://"
    elif "@" in authority:
        yield "must not hold a user or a password; a secret can stand in its path"
    elif not _is_host(host.lower()):
        yield "must name a host, as a name, four decimal numbers or an IPv6 address in brackets"
    if port and not 1 <= int(port) <= 65_535:
        yield "must have a port from 1 to 65535"
    if fragment:
        yield "must not hold a fragment, which is never sent"


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return ":" in host and _address_of(host.strip("[]")) is not None
    name = host.removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _address_of(name) is not None
    return len(name) <= 253 and all(map(_LABEL.fullmatch, labels))


def _address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_private_host(host: str) -> bool:
    """Tell what shows without a name server."""
    if _address_of(host):
        return not is_public(host)
    return f".{host}".endswith((".localhost", ".localhost.localdomain"))


def is_public(address: str) -> bool:
    """Tell whether an address is one of the internet, which any other machine of it could reach as
    well."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _PRIVATE_IPV4)
    if found in _NAT64:
        return is_public(str(ipaddress.IPv4Address(found.packed[-4:])))
    return found in _GLOBAL_IPV6 and not any(
        found in network for network in _PRIVATE_IPV6
    )


def secrets_of(owner: str, settings: Settings) -> list[bytes]:
    """Return the secrets that sign an owner's webhooks: its own or, if it has none, those of no
    owner.

    A receiver can sign as well as verify, so what owners share lets one speak to another's
    receiver.
    """
    entries = [
        entry.get_secret_value().rpartition(":") for entry in settings.webhook_secrets
    ]
    decoded = [
        (name, base64.b64decode(secret.removeprefix("whsec_")))
        for name, _, secret in entries
    ]
    own = [secret for name, secret in decoded if name == owner]
    return own or [secret for name, secret in decoded if not name]


def headers_of(
    message_id: str, sent_at: int, body: bytes, secrets: list[bytes]
) -> dict[str, str]:
    """Return the headers of Standard Webhooks 1.0; `sent_at` in Unix seconds. Every secret
    signs."""
    content = b"%s.%d.%s" % (message_id.encode(), sent_at, body)
    macs = [
        base64.b64encode(hmac.digest(secret, content, "sha256")).decode()
        for secret in secrets
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": " ".join(f"v1,{mac}" for mac in macs),
    }


def enqueue(
    connection: redis.Redis, job_id: str, owner: str, url: str, now: float
) -> None:
    """Have the status of a job that has ended sent to a checked URL; `now` in Unix seconds."""
    script = ENQUEUE + "enqueue_webhook(ARGV[1], ARGV[2], ARGV[3], ARGV[4])"
    # Its end may still be on its way to others.
    name = f"{job_id}:{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    connection.eval(script, 0, name, owner, url, now)


def start(
    connection: redis.Redis,
    settings: Settings,
    read_status: ReadStatus,
    stopped: threading.Event,
) -> list[threading.Thread]:
    """Send what falls due in threads of their own, until `stopped` is set or the process ends."""
    given = (connection, settings, read_status, stopped)
    threads = [
        threading.Thread(target=_keep_delivering, args=given, daemon=True)
        for _ in range(N_THREADS)
    ]
    for thread in threads:
        thread.start()
    return threads


def _keep_delivering(
    connection: redis.Redis,
    settings: Settings,
    read_status: ReadStatus,
    stopped: threading.Event,
) -> None:
    while not stopped.wait(random.uniform(0.5, 1.5)):
        try:
            while not stopped.is_set() and deliver_next(
                connection, settings, read_status, time.time()
            ):
                pass
        except redis.RedisError as error:
            log.warning(
                "Redis does not answer (%s); webhooks wait", type(error).__name__
            )
        except Exception:
            log.exception("a webhook could not be sent")


def deliver_next(
    connection: redis.Redis, settings: Settings, read_status: ReadStatus, now: float
) -> bool:
    """Send the webhook that is due first, and tell whether there was one; `now` in Unix seconds.

    It takes less than `LEASE_S`. Any number of threads and processes may call this at once.

    Raises:
        redis.RedisError: Redis does not answer; what was begun is due again after `LEASE_S`.
    """
    delivery, started_at = _claim(connection, now), time.monotonic()
    if delivery is None:
        return False
    with logs.bind(job_id=delivery.job_id):
        outcome = _try(delivery, settings, read_status, now)
        took_s = time.monotonic() - started_at
        if took_s > SLOW_S:
            connection.eval(
                _REST, 0, delivery.owner, delivery.url, round(took_s * REST * 1000)
            )
        _settle(connection, delivery, outcome, now + took_s)
    return True


def _claim(connection: redis.Redis, now: float) -> Delivery | None:
    lease = now + LEASE_S
    found: Any = connection.eval(_CLAIM, 1, DUE, now, lease)
    if not found:
        return None
    name, owner, url, since, tries = (value.decode() for value in found)
    return Delivery(name, owner, url, float(since), int(tries), lease)


def _settle(
    connection: redis.Redis, delivery: Delivery, outcome: Outcome, now: float
) -> None:
    """Note what became of a try: it is over, or it is due again."""
    due = None if outcome.is_over else _next_due(delivery, outcome, now)
    if due is None:
        with connection.pipeline() as both:
            both.zrem(DUE, delivery.name)
            both.delete(f"rowcast:webhook:{delivery.name}")
            both.execute()
    else:
        connection.eval(_POSTPONE, 1, DUE, delivery.name, delivery.lease, due)
    then = (
        ""
        if outcome.is_over
        else f"; {'given up' if due is None else f'again in {due - now:.0f} s'}"
    )
    level = logging.INFO if outcome.is_over else logging.WARNING
    log.log(
        level,
        "webhook to %s, try %d: %s%s",
        _host(delivery.url),
        delivery.tries,
        outcome.words,
        then,
    )


def _host(url: str) -> str:
    """Return what a log line may show: a path or query may hold a secret of the receiver's."""
    return _match(_AUTHORITY, _match(_URL, url)[1])[0]


def _next_due(delivery: Delivery, outcome: Outcome, now: float) -> float | None:
    """Return when to try again, None once the time is over; the last try comes when it ends."""
    end = delivery.since + GIVE_UP_S
    if now >= end:
        return None
    pause_s = min(FIRST_PAUSE_S * PAUSE_GROWTH ** (delivery.tries - 1), LONGEST_PAUSE_S)
    # By chance a little sooner, so that what failed together does not come back together.
    pause_s = max(
        pause_s * random.uniform(0.8, 1.0), min(outcome.asked_pause_s, LONGEST_PAUSE_S)
    )
    return min(now + pause_s, end)


def _try(
    delivery: Delivery, settings: Settings, read_status: ReadStatus, now: float
) -> Outcome:
    started_at = time.monotonic()
    try:
        status, secrets = (
            read_status(delivery.owner, delivery.job_id),
            secrets_of(delivery.owner, settings),
        )
        if status is None:
            return Outcome(True, "not sent, the job was deleted")
        if not secrets:
            return Outcome(False, "not sent, WEBHOOK_SECRETS holds none for this owner")
        target = parse(delivery.url)
        addresses = _resolve(target, settings)
        if time.monotonic() - started_at > PREPARE_S:
            return Outcome(False, "not sent, the store or the name server was too slow")
        body = json.dumps(status, separators=(",", ":")).encode()
        return _judge(
            *_post(
                target,
                addresses,
                headers_of(delivery.job_id, int(now), body, secrets),
                body,
            )
        )
    except RowcastError as error:
        return Outcome(False, f"failed, {error.code}")
    except (OSError, http.client.HTTPException) as error:
        return Outcome(False, f"failed, {type(error).__name__}")


def _judge(status: int, asked_pause: str) -> Outcome:
    is_over = 200 <= status < 300 or status == http.client.GONE
    return Outcome(
        is_over,
        f"answered {status}",
        float(asked_pause) if asked_pause.isdecimal() else 0.0,
    )


class PrivateAddress(OSError):
    """A name leads to a private address."""


def _resolve(target: Target, settings: Settings) -> list[str]:
    """Return an address of each kind, IPv4 and IPv6, that the host has; the system's first choice
    first.

    Raises:
        PrivateAddress: any of its addresses is private.
        OSError: it has none.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in found]
    if not settings.webhook_allow_private and not all(map(is_public, addresses)):
        raise PrivateAddress
    first_of_each = {":" in address: address for address in reversed(addresses)}
    return sorted(first_of_each.values(), key=addresses.index)


def _post(
    target: Target, addresses: list[str], headers: dict[str, str], body: bytes
) -> tuple[int, str]:
    """Return the status and the header Retry-After of the answer; its body is of no interest.

    No proxy of the environment is asked, and no redirect followed.

    Raises: OSError, http.client.HTTPException: there is no whole answer in time, or it comes from
        somebody else.
    """
    with (
        _connected(addresses, target.port) as raw,
        _time_limit(raw, EXCHANGE_S) as is_late,
    ):
        # The certificate is checked for the host of the URL, whatever the address.
        tls = ssl.create_default_context() if target.is_tls else None
        with (
            tls.wrap_socket(raw, server_hostname=target.host)
            if tls
            else raw as connected
        ):
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = connected
            own = {
                "Host": target.authority,
                "User-Agent": f"rowcast/{__version__}",
                "Connection": "close",
            }
            own["Content-Type"] = "application/json"
            connection.request("POST", target.path, body, {**own, **headers})
            answer = connection.getresponse()
            if is_late.is_set():
                # Headers that were cut off look like the last ones.
                raise TimeoutError
            # Taken off so that the receiver is not cut off in mid-sentence; what comes of it does
            # not matter.
            with suppress(OSError, http.client.HTTPException):
                answer.read(MOST_ANSWER_BYTES)
            answer.close()
            return answer.status, answer.getheader("Retry-After", "")


def _connected(addresses: list[str], port: int) -> socket.socket:
    for address in addresses[:-1]:
        with suppress(OSError):
            return _connect(address, port)
    return _connect(addresses[-1], port)


def _connect(address: str, port: int) -> socket.socket:
    connected = socket.create_connection((address, port), CONNECT_S)
    connected.settimeout(EXCHANGE_S)
    return connected


@contextmanager
def _time_limit(connected: socket.socket, limit_s: float) -> Iterator[threading.Event]:
    """Hang up after a while: a time limit of the socket starts anew with each byte that comes.

    Raises:
        TimeoutError: it took too long.
    """
    is_late, line = threading.Event(), connected.dup()

    def hang_up() -> None:
        is_late.set()
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit_s, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield is_late
    except (OSError, http.client.HTTPException) as error:
        if is_late.is_set():
            raise TimeoutError(f"no whole answer within {limit_s:g} s") from error
        raise
    finally:
        timer.cancel()
        line.close()
