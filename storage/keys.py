"""Encryption at rest: what a person wrote is sealed with a key of their own, wrapped by `ENCRYPTION_KEY`.

AES-256-GCM throughout (NIST SP 800-38D): a random 96-bit nonce before each ciphertext. A data key
seals far fewer than the 2^32 messages for which random nonces are safe. Destroying a person's
wrapped key makes everything they wrote unreadable, backups' copies of the rows included.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import ConfigError, KeyMismatch

KEY_BYTES = 32
_NONCE_BYTES = 12
_WRAP_CONTEXT = b"xinyu:data-key:1"
_CACHED_KEYS = 4096


class KeyRing:
    """Opens and seals with people's data keys. Safe from threads; holds the keys of recently active people."""

    def __init__(self, master_key: bytes) -> None:
        if len(master_key) != KEY_BYTES:
            raise ConfigError(
                f"ENCRYPTION_KEY must be {KEY_BYTES} bytes in base64: `xinyu keys encryption` makes one"
            )
        self._master = AESGCM(master_key)
        self._opened: OrderedDict[bytes, AESGCM] = OrderedDict()
        self._lock = threading.Lock()

    def new_data_key(self) -> bytes:
        """A fresh data key, wrapped: what is stored with its person."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._master.encrypt(nonce, secrets.token_bytes(KEY_BYTES), _WRAP_CONTEXT)

    def seal(self, wrapped_key: bytes, text: str, row_id: int) -> bytes:
        """Encrypt text for the row it belongs to: moved to another row it does not open."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._key(wrapped_key).encrypt(nonce, text.encode(), str(row_id).encode())

    def open(self, wrapped_key: bytes, sealed: bytes, row_id: int) -> str:
        """Decrypt what `seal` made. Raises KeyMismatch if the key, the row or the bytes are not those."""
        try:
            plain = self._key(wrapped_key).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], str(row_id).encode()
            )
        except InvalidTag:
            raise KeyMismatch(f"row {row_id} does not open with its person's key") from None
        return plain.decode()

    def check(self, wrapped_key: bytes) -> None:
        """Raises KeyMismatch unless this ring's master key wrapped that data key."""
        self._key(wrapped_key)

    def _key(self, wrapped: bytes) -> AESGCM:
        with self._lock:
            key = self._opened.get(wrapped)
            if key is not None:
                self._opened.move_to_end(wrapped)
                return key
        try:
            key = AESGCM(self._master.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _WRAP_CONTEXT))
        except InvalidTag:
            raise KeyMismatch(
                "ENCRYPTION_KEY does not open the rows in this database. "
                "Set the key they were written with (embedded: the file encryption.key in DATA_DIR)."
            ) from None
        with self._lock:
            self._opened[wrapped] = key
            if len(self._opened) > _CACHED_KEYS:
                self._opened.popitem(last=False)
        return key


def parse_key(text: str) -> bytes:
    """The master key out of its base64 form. Raises ConfigError."""
    try:
        key = base64.b64decode(
            text.strip(), altchars=b"-_" if set(text) & {"-", "_"} else None, validate=True
        )
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError("ENCRYPTION_KEY: expected 32 bytes in base64, as `xinyu keys encryption` prints")
    return key


def load_or_create_key(path: Path) -> bytes:
    """The embedded installation's key: read from `path`, or made there (mode 600) on the first run.

    Raises ConfigError if the file is there but holds no key.
    """
    try:
        return parse_key(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        pass
    except (UnicodeDecodeError, ConfigError):
        raise ConfigError(f"{path}: this file holds no encryption key; restore it from your backup") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    key = secrets.token_bytes(KEY_BYTES)
    # Written whole beside its place and linked in: a crash leaves no half key, and of two first runs one wins.
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # with mode 600
    draft = Path(name)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(key) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        return parse_key(path.read_text(encoding="ascii"))
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return key
