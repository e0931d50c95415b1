"""Ed25519: the test vectors of RFC 8032, and `make env`, which computes public keys without a
library."""

from __future__ import annotations

import base64
import os

import pytest

from deploy import make_env
from rowcast import signatures
from rowcast.setting_types import ed25519_bytes

# RFC 8032, section 7.1: the private and the public key of tests 1, 2, 3 and 1024.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    ),
    (
        "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
        "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
    ),
]


@pytest.mark.parametrize(("private", "public"), VECTORS)
def test_public_keys_are_those_of_the_standard(private: str, public: str) -> None:
    seed = bytes.fromhex(private)
    assert signatures.PrivateKey(seed).public_bytes.hex() == public
    assert make_env.public_key(seed).hex() == public


def test_pair_of_make_env_is_a_pair() -> None:
    for _ in range(3):
        pair = make_env.signing_pair(os.urandom(32))
        key = signatures.PrivateKey(ed25519_bytes("private", pair["SIGNING_KEY"]))
        assert ed25519_bytes("public", pair["VERIFY_KEYS"]) == key.public_bytes


def test_signature_is_that_of_the_value_and_the_key() -> None:
    key, other = (signatures.PrivateKey(os.urandom(32)) for _ in range(2))
    signed = key.sign(["a", 1])
    assert signed["key_id"] == signatures.key_id_of(key.public_bytes)
    assert signatures.is_signed(key.public_bytes, ["a", 1], signed["signature"])
    assert not signatures.is_signed(other.public_bytes, ["a", 1], signed["signature"])
    assert not signatures.is_signed(key.public_bytes, ["a", 2], signed["signature"])


@pytest.mark.parametrize("public", [b"\xff" * 32, b"", bytes(31)])
def test_signature_by_no_key_does_not_count(public: bytes) -> None:
    nothing = base64.b64encode(bytes(64)).decode()
    assert not signatures.is_signed(public, "x", nothing)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519-public-",
        "ed25519-private-" + "A" * 43,
        "ed25519-public-" + "A" * 42,
        "ed25519-public-" + "A" * 42 + "!",
        "ed25519-public-" + "A" * 44,
    ],
)
def test_malformed_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ed25519-public-"):
        ed25519_bytes("public", text)
