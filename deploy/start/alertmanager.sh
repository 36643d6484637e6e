#!/bin/sh
# Alertmanager, in its container and without one. Who is told comes from the environment, so that no secret is in git:
# what stands below `receivers:` in alertmanager.yml is replaced.
set -eu
: "${WATCH_CONFIG:?}" "${ALERTMANAGER_DATA:?}" "${STACK_ADDRESS:?}" "${ALERTMANAGER_PORT:?}" "${ALERTMANAGER_URL:?}"
umask 077
mkdir -p "$ALERTMANAGER_DATA"
config=$ALERTMANAGER_DATA/alertmanager.yml

quoted() { # as YAML takes anything: in single quotes, those within doubled
  printf "'%s'" "$(printf %s "$1" | sed "s/'/''/g")"
}

receiver() { # receiver NAME WEBHOOK
  printf '  - name: %s\n' "$1"
  if [ -n "$2" ]; then
    printf '    webhook_configs: [{url: %s, send_resolved: true}]\n' "$(quoted "$2")"
  fi
  if [ -n "${ALERT_EMAIL_TO:-}" ]; then
    printf '    email_configs: [{to: %s, from: %s, smarthost: %s, send_resolved: true' \
      "$(quoted "$ALERT_EMAIL_TO")" "$(quoted "${ALERT_EMAIL_FROM:-$ALERT_EMAIL_TO}")" "$(quoted "${SMTP_SERVER:?is needed for ALERT_EMAIL_TO}")"
    if [ -n "${SMTP_USER:-}" ]; then
      printf ', auth_username: %s, auth_password: %s' "$(quoted "$SMTP_USER")" "$(quoted "${SMTP_PASSWORD:-}")"
    fi
    printf '}]\n'
  fi
}

{
  sed '/^receivers:/,$d' "$WATCH_CONFIG/alertmanager/alertmanager.yml"
  echo 'receivers:'
  receiver page "${ALERT_PAGE_WEBHOOK:-}"
  receiver ticket "${ALERT_TICKET_WEBHOOK:-}"
} >"$config"
if [ -z "${ALERT_PAGE_WEBHOOK:-}${ALERT_TICKET_WEBHOOK:-}${ALERT_EMAIL_TO:-}" ]; then
  echo 'alerts are shown and nobody is told: ALERT_PAGE_WEBHOOK, ALERT_TICKET_WEBHOOK and ALERT_EMAIL_TO are empty' >&2
fi

program=alertmanager
command -v "$program" >/dev/null || program=prometheus-alertmanager # Debian's name
exec "$program" --config.file="$config" --storage.path="$ALERTMANAGER_DATA/state" \
  --web.listen-address="$STACK_ADDRESS:$ALERTMANAGER_PORT" --web.external-url="$ALERTMANAGER_URL" --cluster.listen-address=
