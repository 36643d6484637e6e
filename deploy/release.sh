#!/usr/bin/env bash
# On the machine that serves: changes to a release, and back to the one before it where the new one is not healthy.
#
#   bash ROOT/releases/TAG/deploy/release.sh        change to TAG
#   bash ROOT/releases/TAG/deploy/release.sh back   back to the release before the one that runs
#
#   ROOT/.env                      this machine's values, the same for every release; never part of one
#   ROOT/releases/TAG/deploy/      what the release brought: this script, compose.yaml and what it mounts
#   ROOT/releases/TAG/release.env  the images that belong to it
#   ROOT/current, ROOT/previous    the tag that runs, and the one before
#
# Ends with 0 where the wanted release runs, with 1 where the one before does (or nothing was changed), with 2 where
# neither is healthy. RELEASE_WAIT_S: how long a release has to become healthy.
set -euo pipefail

fail() { echo "$2" >&2; exit "$1"; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
root=$(cd "$here/../.." && pwd -P)
cd "$root"
[ -f .env ] || fail 1 "$root/.env is missing: copy $here/.env.example there and fill it in"
exec 9>.release.lock
flock --nonblock 9 || fail 1 "another release is under way on this machine"

old=$(cat current 2>/dev/null || true)
case "${1:-}" in
  "") new=$(basename "$here") ;;
  back) new=$(cat previous 2>/dev/null) || fail 1 "there is no release before $old" ;;
  *) fail 1 "release.sh takes nothing, or: back" ;;
esac

compose() { # compose TAG ARGUMENT...: with that release's own files and images, whatever this shell has set
  local release="releases/$1"
  shift
  env --unset RAKUTEN_IMAGES --unset RAKUTEN_TAG docker compose --project-name rakuten \
    --env-file .env --env-file "$release/release.env" --file "$release/deploy/compose.yaml" "$@"
}

start() { # healthy, or not zero
  compose "$1" up --detach --no-build --remove-orphans --wait --wait-timeout "${RELEASE_WAIT_S:-300}"
}

remember() { # never half written
  echo "$2" >"$1.new"
  mv "$1.new" "$1"
}

# An image that cannot be had is found out before anything stops. One that is here already is the same: tags never move.
compose "$new" pull --quiet --policy missing || fail 1 "the images of $new cannot be pulled; nothing was changed"
if start "$new"; then
  if [ "$old" != "$new" ]; then
    [ -z "$old" ] || remember previous "$old"
    remember current "$new"
  fi
  echo "$new runs and is healthy"
  exit 0
fi

echo "$new is not healthy:" >&2
compose "$new" ps --all >&2 || true
if [ -z "$old" ] || [ "$old" = "$new" ]; then
  fail 2 "there is no other release to go back to"
fi
start "$old" || fail 2 "and $old, the release before it, is not healthy either"
fail 1 "went back to $old, which runs and is healthy"
