"""Made-up installed distributions, as an installer leaves them in a folder: good ones and broken ones."""

from __future__ import annotations

import base64
import hashlib

METADATA = """Metadata-Version: 2.4
Name: {name}
Version: {version}
"""


def make(folder, name="Foo.Bar", version="1.0", *, metadata="", files=(), record=None, info=()):
    """Install a distribution into `folder`; answers a task's configuration for it.

    `metadata` are more headers and, after an empty line, a description; `files` maps paths to contents; `record` is
    RECORD as it stands, False for none, else what an installer writes; `info` maps names in `.dist-info` to contents.
    """
    dist_info = folder / f"{name.replace('.', '_').lower()}-{version}.dist-info"
    dist_info.mkdir(parents=True)
    files = dict(files)
    for path, content in files.items():
        location = folder / path
        location.parent.mkdir(parents=True, exist_ok=True)
        location.write_bytes(_bytes(content))
    stated = metadata if isinstance(metadata, bytes) else (METADATA.format(name=name, version=version) + metadata)
    (dist_info / "METADATA").write_bytes(_bytes(stated))
    for part, content in dict(info).items():
        (dist_info / part).write_bytes(_bytes(content))
    if record is not False:
        rows = record if record is not None else "".join(row(path, content) for path, content in files.items())
        (dist_info / "RECORD").write_bytes(_bytes(rows))
    return config(folder, name, version)


def config(folder, name="Foo.Bar", version="1.0"):
    """A task's configuration for a distribution of this name."""
    return {"distribution": name.replace(".", "-").lower(), "version": version, "folder": str(folder)}


def row(path, content, algorithm="sha256"):
    """A line of RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, _bytes(content)).digest()).rstrip(b"=").decode()
    return f"{path},{algorithm}={digest},{len(_bytes(content))}\n"


def _bytes(content):
    return content.encode() if isinstance(content, str) else content
