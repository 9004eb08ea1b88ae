#!/usr/bin/env bash
# Renders and checks the Helm chart. Helm is taken from PATH, or built once with Go into .cache/.
set -euo pipefail
cd "$(dirname "$0")/.."

version=v3.20.2
helm=$(command -v helm || true)
if [ -z "$helm" ] && command -v go >/dev/null 2>&1; then
  helm=$PWD/.cache/helm-$version/helm
  if [ ! -x "$helm" ]; then
    echo "chart: building helm $version with Go" >&2
    GOBIN=$(dirname "$helm") CGO_ENABLED=0 go install -trimpath -ldflags='-s -w' "helm.sh/helm/v3/cmd/helm@$version" >&2
  fi
fi
if [ -z "$helm" ]; then
  echo 'chart: not checked: neither helm (3) nor Go (1.25 or later, to build it) is here' >&2
  [ -z "${CI:-}" ] && exit 0
  exit 1
fi
npx --no-install tsx scripts/check-chart.ts "$helm"
