#!/usr/bin/env bash
# The browser tests need Debian's chromium: installs it where it is missing and we may, else says what to install.
set -euo pipefail
if command -v chromium >/dev/null; then
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk >/dev/null
else
  echo "The browser tests need chromium: install it with your package manager (Debian: sudo apt install chromium)." >&2
  exit 1
fi
