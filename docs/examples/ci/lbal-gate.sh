#!/usr/bin/env bash
# Holds a router to the load balance that it gives on recorded traffic.
#   ci/lbal-gate.sh                against the stored baseline that lbal.toml names
#   ci/lbal-gate.sh origin/main    against what that commit gives on the same traffic, computed now
#   ci/lbal-gate.sh --record       make what there is now the stored baseline
# Exit code: 0 fine, 1 a gate failed, 2 it could not be checked.
set -euo pipefail

traffic=$PWD/traffic.jsonl
work=$(mktemp -d)
trap 'git worktree remove --force "$work/base" 2> /dev/null || true; rm -rf "$work"' EXIT

# replay FOLDER RESULT: the router of that folder on the traffic of this one. Eight seeds give every difference an
# interval; a single run is faster, and more gates are inconclusive.
replay() {
  (cd "$1" && lbal replay "$traffic" --dp-size 8 --max-num-seqs 32 --policy router.py:Router --repeat 8 -o "$2" > /dev/null)
}

check() {
  local reports=(--report junit=lbal.xml --force)
  if [[ -n ${GITHUB_ACTIONS:-} ]]; then reports+=(--report github); fi
  lbal check "$work/head.json" "${reports[@]}" "$@"
}

replay . "$work/head.json"
case ${1:-} in
  "") check ;;
  --record) lbal check "$work/head.json" --record-baseline ;;
  *)
    git worktree add --quiet --detach "$work/base" "$1"
    replay "$work/base" "$work/base.json"
    check --baseline "$work/base.json"
    ;;
esac
