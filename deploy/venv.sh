#!/usr/bin/env bash
# Install a lock into .venv, whole or not at all: deploy/venv.sh requirements.txt
# Safe to call again and at once from several shells; does nothing when the lock is installed already.
set -euo pipefail
cd "$(dirname "$0")/.."
lock_file=$1
stamp=.venv/.installed-${lock_file%.txt}

find_python() {
  for name in python3 python3.13 python3.12 python3.11 python3.14; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"; return
    fi
  done
  echo "XinYu needs Python 3.11 or newer / 需要 Python 3.11 以上: sudo apt-get install -y python3 python3-venv" >&2
  exit 1
}

make_venv() {
  if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
      echo "Missing / 缺少: python3-venv.  sudo apt-get install -y python3-venv" >&2
      exit 1
    fi
  fi
  rm -rf .venv
  "$1" -m venv .venv
}

mkdir -p .cache
exec 9>.cache/venv.lock
flock 9
wanted=$(cat "$lock_file" pyproject.toml deploy/venv.sh | sha256sum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0
rm -f "$stamp"
.venv/bin/python -c 'import pip' 2>/dev/null || make_venv "$(find_python)"
echo "Installing $lock_file into .venv …" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock_file"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
printf '%s\n' "$wanted" > "$stamp"
