#!/bin/sh
# Make a virtual environment and install TumorQuery into it.
#
#     scripts/setup.sh PYTHON FOLDER run|test
#
# "run" installs what the commands need; "test" adds the optional extras and the
# groups test and slicer-test of pyproject.toml. What cannot be installed is said and skipped.
set -eu
python=$1
folder=$2
what=$3
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

# pyenv's shims name versions that they do not run unasked; the interpreter itself lies beside them.
if ! "$python" -c "" >/dev/null 2>&1; then
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/"$python"; do
        if [ -x "$candidate" ]; then python=$candidate; fi
    done
fi

# System packages first, all that are missing in one sentence.
missing=""
if ! command -v "$python" >/dev/null 2>&1; then
    missing="$missing python3 python3-venv"
elif ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    missing="$missing python3-venv"
fi
command -v make >/dev/null 2>&1 || missing="$missing make"
# A compiler is needed only by pyradiomics, which the tests try to build.
if [ "$what" = test ] && ! command -v gcc >/dev/null 2>&1; then
    missing="$missing gcc"
fi
if [ -n "$missing" ]; then
    say "missing system packages:$missing; install them with 'apt-get install$missing' (as root) and run make again."
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'; then
    say "$("$python" --version) is not supported; name a Python from 3.10 to 3.13, such as 'make setup PYTHON=python3.12'."
    exit 1
fi

[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
pip="$folder/bin/python -m pip --disable-pip-version-check --quiet --quiet"
constraints="--constraint Testing/constraints.txt"
$pip install --upgrade "pip>=25.1" "setuptools>=77" wheel
$pip install $constraints --editable .

if [ "$what" = test ]; then
    $pip install $constraints --group test
    $pip install $constraints --editable ".[distributed]" || say "skipped the extra 'distributed': dask could not be installed."
    $pip install $constraints --group slicer-test || say "skipped the group 'slicer-test': no slicer-core or PySide6 for this Python and platform."
    $pip install faiss-cpu || say "skipped faiss-cpu: the query benchmark leaves its row out."

    # Without a GPU the CPU build of torch, which is gigabytes smaller on Linux.
    if [ "${LEARNED:-yes}" = no ]; then
        say "skipped the extra 'learned' as asked (LEARNED=no)."
    elif "$folder/bin/python" -c 'import torch' >/dev/null 2>&1 && "$folder/bin/python" -c 'import safetensors' >/dev/null 2>&1; then
        :
    else
        torch="torch==2.13.0"
        if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then torch="torch==2.13.0+cpu"; fi
        if $pip install $constraints "$torch" safetensors 2>/dev/null \
            || $pip install --retries 0 --timeout 15 $constraints --extra-index-url https://download.pytorch.org/whl/cpu "$torch" safetensors 2>/dev/null; then
            :
        else
            say "skipped the extra 'learned': $torch could not be installed for this Python; the learned strategies are not tested."
        fi
    fi

    # pyradiomics comes as source, wants NumPy at build time and breaks on Python 3.12 and later.
    if "$folder/bin/python" -c 'import radiomics' >/dev/null 2>&1; then
        :
    elif "$folder/bin/python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))' \
        && $pip install $constraints --no-build-isolation "pyradiomics==3.0.1" >/dev/null 2>&1; then
        :
    else
        say "skipped the extra 'radiomics': pyradiomics 3.0.1 cannot be built here; TumorQuery's own shape features are used instead."
    fi
fi
