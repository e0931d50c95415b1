"""Create, list and revoke API keys; running servers follow within two seconds.

    python -m rowcast.access create --owner ann --name laptop --scopes read,predict,fit [--days 90]
    python -m rowcast.access list [--owner ann]
    python -m rowcast.access revoke ID

REDIS_URL says where the keys are. `create` writes the key to standard output, once: what is kept is
its SHA-256.
"""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import get_args

import redis

from rowcast.access import keys
from rowcast.access.callers import Scope
from rowcast.access.key_store import KeyStore
from rowcast.config import ConfigurationError, Settings
from rowcast.errors import RowcastError
from rowcast.observability import AuditLog
from rowcast.redis_clients import connect_for_requests
from rowcast.setting_types import OWNER

_NOT_RESTORED = (
    "Redis is new: keys that an earlier one had are not in it before the maintenance process or "
    "the server has put them back.\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    options = _parse(arguments)
    try:
        settings = Settings.from_environment()
        with closing(connect_for_requests(settings)) as connection:
            store = KeyStore(connection)
            if not store.state().is_restored:
                sys.stderr.write(_NOT_RESTORED)
            return int(options.work(options, store, settings))
    except ConfigurationError as error:
        return _fail(str(error))
    except RowcastError as error:
        return _fail(f"{error.detail} {error.hint}")
    except redis.RedisError as error:
        return _fail(
            f"Redis does not answer ({type(error).__name__}); REDIS_URL names it."
        )


def _create(options: argparse.Namespace, store: KeyStore, settings: Settings) -> int:
    expires_at = time.time() + options.days * 86_400 if options.days else None
    plain, key = keys.new_key(
        options.owner, options.name, options.scopes, expires_at=expires_at
    )
    store.add(keys.digest_of(plain), key)
    _audit(settings, "access create", key)
    sys.stdout.write(f"{plain}\n")
    sys.stderr.write(
        f"Key {key.id} of {key.owner}. It is not shown again: keep it in a safe place.\n"
    )
    if not settings.needs_keys:
        sys.stderr.write(
            "With these settings, the server admits callers without a key: set API_KEYS or "
            "ALLOW_ANONYMOUS=false.\n"
        )
    return 0


def _list(options: argparse.Namespace, store: KeyStore, _: Settings) -> int:
    found = store.keys()[1]
    last_uses = store.last_uses()
    lines = [("ID", "OWNER", "NAME", "SCOPES", "CREATED", "LAST USED", "ENDS")]
    for key in sorted(found.values(), key=lambda key: key.id):
        if options.owner and key.owner != options.owner:
            continue
        times = (key.created_at, last_uses.get(key.id), key.ends_at)
        created, used, ends = map(_day, times)
        state = f"{ends} (revoked)" if key.revoked_at is not None else ends
        scopes = ",".join(key.scopes)
        lines.append((key.id, key.owner, key.name, scopes, created, used, state))

    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    return 0


def _day(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _audit(settings: Settings, action: str, key: keys.Key) -> None:
    # Standard output belongs to the key.
    is_stdout = settings.audit_log == "stdout"
    target = "stderr" if is_stdout else settings.audit_log
    user = getpass.getuser()
    AuditLog(target).write(action, "done", user=user, owner=key.owner, object=key.id)


def _revoke(options: argparse.Namespace, store: KeyStore, settings: Settings) -> int:
    key = store.revoke(options.id)
    if key is None:
        return _fail(f"Key {options.id} does not exist; `list` shows the ids.")
    _audit(settings, "access revoke", key)
    sys.stderr.write(f"Key {key.id} of {key.owner}, {key.name}, is revoked.\n")
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"rowcast.access: {message}\n")
    return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rowcast.access",
        description="Create, list and revoke API keys, while the service runs.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    creating = commands.add_parser("create", help="create a key, and show it once")
    creating.set_defaults(work=_create)
    creating.add_argument("--owner", type=_owner, required=True, help="whose data")
    creating.add_argument("--name", type=_name, required=True, help="where it is used")
    creating.add_argument(
        "--scopes",
        type=_scopes,
        required=True,
        help=f"what it may do, separated by commas: {', '.join(get_args(Scope))}",
    )
    creating.add_argument("--days", type=_days, help="days that it is valid; else ever")

    listing = commands.add_parser("list", help="list all keys, also ended ones")
    listing.set_defaults(work=_list)
    listing.add_argument("--owner", type=_owner, help="only keys of this owner")

    revoking = commands.add_parser("revoke", help="end a key")
    revoking.set_defaults(work=_revoke)
    revoking.add_argument("id", help="the key's id, as `list` shows it")
    return parser.parse_args(arguments)


def _owner(text: str) -> str:
    if not OWNER.fullmatch(text):
        raise argparse.ArgumentTypeError(
            "an owner has 1 to 63 lower-case letters, digits, - and _"
        )
    return text


def _name(text: str) -> str:
    if not keys.NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            "a name has 1 to 64 letters, digits, spaces, '.', '_', '@' and '-'"
        )
    return text


def _scopes(text: str) -> list[str]:
    given = [part.strip() for part in text.split(",")]
    if unknown := set(given) - set(get_args(Scope)):
        raise argparse.ArgumentTypeError(f"unknown scope: {', '.join(sorted(unknown))}")
    return given


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= 36_500:
        raise argparse.ArgumentTypeError("must be a number of days over 0")
    return days


if __name__ == "__main__":
    sys.exit(main())
