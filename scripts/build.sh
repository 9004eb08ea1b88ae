#!/usr/bin/env bash
# TypeScript -> dist/, and beside it what the compiler does not copy.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf dist
npx --no-install tsc -p tsconfig.build.json
(cd src && find . -name '*.lua' -o -name '*.html' -o -name '*.css' | while read -r file; do install -D -m 644 "$file" "../dist/$file"; done)
chmod 755 dist/main.js 2>/dev/null || true
