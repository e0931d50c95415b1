"""The worker processes: they take jobs from the queue, and fit and predict.

This program starts the signer, which alone keeps the private key of models. Then it starts itself
once more in the same process, without the key, and becomes the workers.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import NoReturn

if __name__ == "__main__":
    # The first process of a container loses a signal that it neither handles nor blocks.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

from rowcast import signatures
from rowcast.config import ConfigurationError, Settings
from rowcast.setting_types import ed25519_bytes
from rowcast.workers import signer


def main() -> None:
    """Run the workers until SIGTERM or Ctrl-C."""
    arguments = _parse_arguments()
    if not arguments.signer:
        _start_signer()
    # It imports scikit-learn, for which the first start would wait in vain.
    from rowcast.workers import program

    program.run(arguments.workers, signer.Signer.named(arguments.signer))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run the workers that fit and predict."
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="worker processes; 0: one per core (default: WORKERS)",
    )
    parser.add_argument("--signer", help=argparse.SUPPRESS)
    return parser.parse_args()


def _start_signer() -> NoReturn:
    try:
        key = _private_key(Settings.from_environment())
        started = signer.start(key)
    except (ConfigurationError, OSError) as error:
        sys.exit(f"rowcast: {error}")
    given = sys.orig_argv[1:]
    argv = [sys.executable, *given, "--signer", started.inherited_name()]
    environment = {k: v for k, v in os.environ.items() if k.upper() != "SIGNING_KEY"}
    # The memory of this program, which has seen the key, ends here.
    os.execve(argv[0], argv, environment)  # noqa: S606 # nosec B606


def _private_key(settings: Settings) -> signatures.PrivateKey:
    if settings.signing_key is None:
        raise ConfigurationError(
            "SIGNING_KEY: workers sign models and need a key; "
            "`python3 deploy/make_env.py signing-key` prints one, and its public key"
        )
    seed = ed25519_bytes("private", settings.signing_key.get_secret_value())
    key = signatures.PrivateKey(seed)
    if key.public_bytes not in settings.public_keys:
        raise ConfigurationError(
            "VERIFY_KEYS: the public key of SIGNING_KEY is missing: add "
            f"{signatures.public_text(key.public_bytes)}"
        )
    return key


if __name__ == "__main__":
    main()
