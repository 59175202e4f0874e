#!/usr/bin/env bash
# Write both locks: exact versions with hashes, and nothing about where they came from.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .cache/uv/bin/uv ] || { python3 -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv; }
compile() { .cache/uv/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url \
  --custom-compile-command "make lock" pyproject.toml "$@"; }
compile --extra build -o requirements.txt
compile --extra build --extra dev -c requirements.txt -o requirements-dev.txt
