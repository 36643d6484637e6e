#!/bin/sh
# Prometheus, in its container and without one. Its configuration names no address: whom it asks is written beside it here.
set -eu
: "${WATCH_CONFIG:?}" "${PROMETHEUS_DATA:?}" "${STACK_ADDRESS:?}" "${PROMETHEUS_PORT:?}" "${PROMETHEUS_URL:?}"
: "${PROMETHEUS_RETENTION:?}" "${SERVE_TARGETS:?}" "${ALERTMANAGER_TARGET:?}"
umask 077
config=$PROMETHEUS_DATA/config
rm -rf "$config"
mkdir -p "$config/targets"
cp -R "$WATCH_CONFIG/prometheus/." "$config"

targets() { # targets NAME HOST:PORT,...
  printf '[{"targets": ["%s"]}]\n' "$(printf %s "$2" | tr -d ' ' | sed 's/,/", "/g')" >"$config/targets/$1.json"
}
targets service "$SERVE_TARGETS"
targets alertmanager "$ALERTMANAGER_TARGET"
targets prometheus "127.0.0.1:$PROMETHEUS_PORT"
printf %s "${SERVE_KEY:-}" >"$config/service.key"

exec prometheus --config.file="$config/prometheus.yml" --web.listen-address="$STACK_ADDRESS:$PROMETHEUS_PORT" \
  --web.external-url="$PROMETHEUS_URL" \
  --storage.tsdb.path="$PROMETHEUS_DATA/series" --storage.tsdb.retention.time="$PROMETHEUS_RETENTION"
