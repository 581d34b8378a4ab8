#!/bin/sh
# Makes a virtual environment with this project (editable) and all its tools: tools/venv.sh DIRECTORY
# With uv where it is on PATH, else with pip. $PYTHON names the interpreter; by default the first one that is new enough.
set -eu

venv=$1
groups="--group test --group lint --group bench"

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    {
        echo "make: expected Python 3.11 or newer, found none${PYTHON:+ (PYTHON=$PYTHON)}; nothing was installed."
        echo "make: Install it, or name it: make PYTHON=/path/to/python3.11 ..."
    } >&2
    exit 1
}

python=$(find_python)
echo "Making $venv with $("$python" --version) and $(command -v uv || echo pip) ..."
# Unquoted on purpose: $groups is a list of words.
if command -v uv >/dev/null; then
    uv venv --quiet --allow-existing --python "$python" "$venv"
    uv pip install --quiet --compile-bytecode --python "$venv/bin/python" --constraint constraints.txt $groups --editable .
else
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $groups --editable .
fi
