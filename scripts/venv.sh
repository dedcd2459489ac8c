#!/bin/sh
# Makes a virtual environment: `scripts/venv.sh FOLDER PYTHON dev|run`. With uv where it is there, else with venv and pip.
set -eu
folder=$1 python=$2 kind=$3

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Fanfold needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Try: make PYTHON=python3.12 $kind" >&2
    exit 1
}
if command -v uv >/dev/null 2>&1; then
    [ -x "$folder/bin/python" ] || uv venv --quiet --python "$(command -v "$python")" "$folder"
    install="uv pip install --quiet --python $folder/bin/python"
else
    [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
    install="$folder/bin/python -m pip install --quiet --disable-pip-version-check"
fi
if [ "$kind" = dev ]; then
    $install --require-hashes -r requirements-dev.lock
    $install --no-deps --editable .
else
    $install --editable .
fi
touch "$folder/$kind.stamp"
