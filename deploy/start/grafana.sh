#!/bin/sh
# Grafana, in its container: the data source and the dashboards come from files, and nothing is made by hand.
set -eu
: "${WATCH_CONFIG:?}" "${GRAFANA_DATA:?}" "${STACK_ADDRESS:?}" "${GRAFANA_PORT:?}" "${GRAFANA_PASSWORD:?}"
: "${PROMETHEUS_INSIDE:?}" "${ALERTMANAGER_INSIDE:?}" # for provisioning/datasources
rm -rf "$GRAFANA_DATA/dashboards"
mkdir -p "$GRAFANA_DATA/dashboards"
runbook=$(printf %s "${RUNBOOK_URL:-docs/runbook.md}" | sed 's/[\\&|"]/\\&/g')
for dashboard in "$WATCH_CONFIG"/grafana/dashboards/*.json; do
  sed "s|docs/runbook\.md|$runbook|g" "$dashboard" >"$GRAFANA_DATA/dashboards/${dashboard##*/}"
done

export GF_PATHS_PROVISIONING="$WATCH_CONFIG/grafana/provisioning"
export GF_SERVER_HTTP_ADDR="$STACK_ADDRESS" GF_SERVER_HTTP_PORT="$GRAFANA_PORT"
export GF_SECURITY_ADMIN_USER=admin GF_SECURITY_ADMIN_PASSWORD="$GRAFANA_PASSWORD"
export GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH="$GRAFANA_DATA/dashboards/service.json"
export GF_USERS_ALLOW_SIGN_UP=false GF_SECURITY_DISABLE_GRAVATAR=true
export GF_ANALYTICS_REPORTING_ENABLED=false GF_ANALYTICS_CHECK_FOR_UPDATES=false GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES=false
export GF_NEWS_NEWS_FEED_ENABLED=false
exec /run.sh
