#!/usr/bin/env bash
# Set up whatever is missing, then lint, type check and the whole test suite, which builds the documentation, too; in
# CI then its fast part on other Pythons. Arguments go to pytest.
# RNAN_REFERENCE_DIR, if set, names the folder of reference outputs and benchmark images; without it their tests skip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup_env.sh
setup_env
# The tests that look at pages want a browser; CI's machine gets one, a user's is left as it is.
if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v chromium >/dev/null; then
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >/dev/null 2>&1 || echo "no Chromium: its tests skip"
fi
if [ "${CI:-}" = true ]; then export RNAN_FUZZ_SECONDS="${RNAN_FUZZ_SECONDS:-120}"; fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/mypy --config-file tests/mypy.ini tests
.venv/bin/python -m pytest "$@"
if [ "${CI:-}" = true ]; then bash scripts/test_pythons.sh; fi
