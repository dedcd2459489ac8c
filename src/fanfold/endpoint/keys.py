"""Access keys from a file or the environment; never from a command line, which every process can read.

[[keys]]
id = "AKWORKER"
secret = "…"
role = "worker"   # producer, worker or operator
"""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from fanfold.endpoint.access import Key, Role
from fanfold.errors import ConfigurationError

VARIABLE: Final = "FANFOLD_SERVE_KEYS"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_SHORTEST: Final = 16
"""Characters of a secret. AWS's have 40; a shorter one than this could be guessed from one recorded signature."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    secret: str
    role: Role


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_Entry]


def load(path: Path | None, environ: Mapping[str, str]) -> tuple[Key, ...]:
    """The keys of a TOML or JSON file and of `FANFOLD_SERVE_KEYS` (`ID:SECRET:ROLE`, several with commas).

    Raises:
        ConfigurationError: a file that others can read, or that doesn't hold keys; a key twice; a short secret.
    """
    entries = [*_of_file(path)] if path is not None else []
    entries += _of_variable(environ.get(VARIABLE, ""))
    twice = {entry.id for entry in entries if sum(other.id == entry.id for other in entries) > 1}
    if twice:
        raise ConfigurationError(f"access key {min(twice)!r} is there twice; give each key an id of its own")
    return tuple(_key(entry) for entry in entries)


def _of_file(path: Path) -> Iterable[_Entry]:
    try:
        mode = path.stat().st_mode
        if not mode & _OTHERS:
            return msgspec.convert(_read(path), _File).keys
    except OSError as error:
        raise ConfigurationError(f"--keys {path}: {error.strerror}; name a readable TOML or JSON file") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"--keys {path}: {error}; write [[keys]] with id, secret and role") from None
    raise ConfigurationError(
        f"--keys {path}: its mode {stat.S_IMODE(mode):o} lets other users at the secrets; chmod 600 {path}"
    )


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else tomllib.loads(text)


def _of_variable(text: str) -> list[_Entry]:
    return [_of_text(number, part.strip()) for number, part in enumerate(text.split(","), 1) if part.strip()]


def _of_text(number: int, text: str) -> _Entry:
    parts = text.split(":")
    roles = [str(role) for role in Role]
    if len(parts) != 3 or parts[2] not in roles:  # noqa: PLR2004 - id, secret, role
        # Its text is a secret, so it isn't quoted.
        raise ConfigurationError(f"{VARIABLE}, key {number}: write ID:SECRET:ROLE, the role one of {', '.join(roles)}")
    return _Entry(parts[0], parts[1], Role(parts[2]))


def _key(entry: _Entry) -> Key:
    if not entry.id.isascii() or not entry.id.isalnum():
        raise ConfigurationError(f"access key id {entry.id!r}: use letters and digits only")
    if len(entry.secret) < _SHORTEST:
        raise ConfigurationError(
            f"access key {entry.id!r}: its secret has {len(entry.secret)} characters; use {_SHORTEST} or more, random "
            "ones: openssl rand -base64 30"
        )
    return Key(entry.id, entry.secret, entry.role)
