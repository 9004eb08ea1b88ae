#!/usr/bin/env bash
# The Open Policy Agent that the tests ask the shipped Rego policies of: from PATH, or built once with Go into the user's cache. Prints where
# it is. `opa.sh find` builds nothing, and prints nothing where there is none.
set -euo pipefail

version=v1.22.3
opa=$(command -v opa || true)
# Before 1.0 an OPA reads another Rego.
if [ -n "$opa" ] && ! "$opa" version | grep -q '^Rego Version: v1'; then opa=; fi
built=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/mayfly/opa-$version/opa
if [ -z "$opa" ] && [ -x "$built" ]; then opa=$built; fi
if [ "${1:-}" = find ]; then
  echo "$opa"
  exit 0
fi
if [ -z "$opa" ] && command -v go >/dev/null 2>&1; then
  echo "opa: building $version with Go" >&2
  GOBIN=$(dirname "$built") CGO_ENABLED=0 go install -trimpath -ldflags='-s -w' "github.com/open-policy-agent/opa@$version" >&2
  opa=$built
fi
if [ -z "$opa" ]; then
  echo 'opa: not tried: neither opa (1.0 or later) nor Go (1.26 or later, to build it) is here' >&2
  [ -z "${CI:-}" ] && exit 0
  exit 1
fi
echo "$opa"
