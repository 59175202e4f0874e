#!/usr/bin/env bash
# The real servers that the tests start for themselves: installed here when we may, named when we may not.
set -euo pipefail
declare -A programs=([mariadbd]=mariadb-server [redis-server]=redis-server [chromium]=chromium)
missing=()
for program in "${!programs[@]}"; do
  PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing+=("${programs[$program]}")
done
fc-list 2>/dev/null | grep -qi "cjk" || missing+=(fonts-noto-cjk)
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing ${missing[*]} …" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "Tests that need them are skipped / 相关测试会跳过. To run them all: sudo apt-get install -y ${missing[*]}" >&2
fi
