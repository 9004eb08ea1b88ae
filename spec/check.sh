#!/usr/bin/env bash
# Checks the model of a lease's life, and that it finds what it must: each planted defect has to break the property named beside it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# check PROPERTY [-DNAME=VALUE ...]: prints "holds" or "broken"
check() {
  local property=$1 fair=''
  shift
  spin -a "$@" "$here/lease.pml" >spin.log 2>&1 || { cat spin.log >&2; return 1; }
  gcc -w -O2 -DCOLLAPSE -DNFAIR=3 -o pan pan.c
  [ "$property" = dies ] && fair=-f
  ./pan -a $fair -m2000000 -w25 -N "$property" >pan.log 2>&1 || true
  if grep -q 'max search depth too small\|out of memory\|Search not completed' pan.log && ! grep -q 'errors: [1-9]' pan.log; then
    cat pan.log >&2
    return 1
  fi
  if grep -q 'errors: 0$' pan.log; then echo holds; elif grep -q 'errors: [1-9]' pan.log; then echo broken; else cat pan.log >&2; return 1; fi
}
expect() {
  local expected=$1 found
  shift
  found=$(check "$@")
  echo "model: $*: $found ($(sed -n 's/^ *\([0-9]*\) states, stored.*/\1 states/p' pan.log))"
  [ "$found" = "$expected" ] || { echo "model: it should be: $expected" >&2; exit 1; }
}

expect holds intent -DCRASHES=1 -DFAILURES=1
expect holds dies -DCRASHES=1 -DFAILURES=1
for defect in NO_RECHECK NO_FREEZE EAGER_ABSENT MINT_FIRST GIVE_UP; do expect broken intent -D$defect; done
expect broken dies -DNO_REARM
