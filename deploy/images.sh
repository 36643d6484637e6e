#!/usr/bin/env bash
# The images of deploy/*.Dockerfile, under a tag that is given once: version and commit. A new Dockerfile joins by itself.
#
#   bash deploy/images.sh version          0.1.0: of pyproject.toml
#   bash deploy/images.sh tag              0.1.0-6e48581764ab: of this checkout
#   bash deploy/images.sh build IMAGES     build each as IMAGES-NAME:TAG
#   bash deploy/images.sh absent IMAGES    fail where the registry holds one of them already, or does not say
#   bash deploy/images.sh push IMAGES      as `absent`, then push
#   bash deploy/images.sh pack IMAGES      what a serving machine needs beside them, as a tar (deploy/release.sh)
#
# IMAGES is what their names begin with: registry, owner and project (ghcr.io/OWNER/PROJECT).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "$1" >&2; exit 1; }

version() {
  local found
  found=$(sed -n 's/^version = "\([^"]*\)"$/\1/p' pyproject.toml)
  [ -n "$found" ] || fail "pyproject.toml says no version"
  echo "$found"
}

each() { # each COMMAND: COMMAND DOCKERFILE IMAGE, for every image
  local dockerfile
  for dockerfile in deploy/*.Dockerfile; do
    [ -e "$dockerfile" ] || fail "no Dockerfile in deploy/"
    "$1" "$dockerfile" "$images-$(basename "$dockerfile" .Dockerfile):$tag"
  done
}

build() {
  docker build --pull --file "$1" --tag "$2" \
    --label "org.opencontainers.image.version=$tag" \
    --label "org.opencontainers.image.revision=$(git rev-parse HEAD)" .
}

absent() {
  local said
  if said=$(docker manifest inspect "$2" 2>&1); then
    fail "$2 exists already: a tag is given once. Raise the version in pyproject.toml, or tag another commit"
  fi
  # Who may not read may not write either, and a package that is not there yet is denied to everyone.
  grep -qiE 'manifest unknown|no such manifest|name unknown|not found|denied' <<<"$said" ||
    fail "the registry does not say whether $2 exists: $said"
}

push() { docker push "$2"; }

pack() {
  git archive --format=tar --prefix="releases/$tag/" \
    --add-virtual-file="releases/$tag/release.env:RAKUTEN_IMAGES=$images
RAKUTEN_TAG=$tag
" HEAD deploy .env.example
}

[ $# -ge 1 ] || fail "$(sed -n '2,11s/^# \{0,1\}//p' "$0")"
tag="$(version)-$(git rev-parse --short=12 HEAD)"
images=${2:-}
images=${images,,} # an image's name has no capitals, an owner's may
case "$1" in
  version) version ;;
  tag) echo "$tag" ;;
  build | absent | push | pack)
    [ -n "$images" ] || fail "deploy/images.sh $1 IMAGES: say what their names begin with"
    case "$1" in
      pack) pack ;;
      push)
        each absent
        each push
        ;;
      *) each "$1" ;;
    esac
    ;;
  *) fail "deploy/images.sh knows version, tag, build, absent, push and pack, not $1" ;;
esac
