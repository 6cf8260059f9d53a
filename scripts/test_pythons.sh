#!/usr/bin/env bash
# The wheel in an empty environment, and the fast part of the suite with it: on the oldest Python with the oldest torch
# that pyproject.toml allows, and on the newest Python at hand with the newest torch. About 4 minutes each, most of it torch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fast=(tests/images/test_degradations.py tests/images/test_metrics.py tests/archs/test_rnan_arch.py tests/archs/test_official_weights.py
    tests/environment/test_doctor.py tests/environment/test_basicsr.py tests/inference/test_shipped.py)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

interpreter() { # of a version such as 3.13, on PATH or among pyenv's
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if "$candidate" -c pass 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

check() { # a Python and torch's requirements, in an environment of their own
    local python=$1 bin="$folder/venv/bin"
    shift
    echo "$("$python" --version), $*"
    "$python" -m venv --clear "$folder/venv"
    "$bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$@" "$folder"/*.whl pytest build
    "$bin/rnan" --version
    (cd "$folder" && "$bin/rnan" restore photo.png restored.png --task car --level 10)
    "$bin/rnan" install-basicsr
    "$bin/python" -m pip check
    "$bin/tensorboard" --version 2>/dev/null
    "$bin/pytest" "${fast[@]}"
}

.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir "$folder" .
cp docs/restored.png "$folder/photo.png"
oldest=$(grep -oP 'requires-python = ">=\K[0-9.]+' pyproject.toml)
torch=$(grep -oP '"torch>=\K[0-9.]+' pyproject.toml) torchvision=$(grep -oP '"torchvision>=\K[0-9.]+' pyproject.toml)
if python=$(interpreter "$oldest"); then
    check "$python" "torch==$torch.*" "torchvision==$torchvision.*"
else
    echo "no Python $oldest at hand: the oldest torch is not tested"
fi
for version in 3.14 3.13 3.12; do
    if python=$(interpreter "$version"); then
        check "$python" torch torchvision
        exit
    fi
    echo "no Python $version at hand: not tested"
done
