#!/bin/sh
# Renews requirements-dev.lock: `scripts/lock.sh PYTHON [--upgrade]`. What is locked stays as it is unless --upgrade is given.
# Without uv on the PATH, one is installed into an environment of its own.
set -eu
python=$1
shift

if command -v uv >/dev/null 2>&1; then
    uv=uv
else
    [ -x .venv-uv/bin/uv ] || {
        rm -rf .venv-uv
        "$python" -m venv .venv-uv
        .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv
    }
    uv=.venv-uv/bin/uv
fi
"$uv" pip compile pyproject.toml --group dev --universal --python-version 3.11 --no-emit-index-url --generate-hashes \
    --quiet --custom-compile-command "make lock" --output-file requirements-dev.lock "$@"
