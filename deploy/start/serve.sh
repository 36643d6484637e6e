#!/bin/sh
# The champion behind HTTP, in its container and without one: it follows MLflow's alias and logs to PostgreSQL.
set -eu
: "${SERVE_FOLDER:?}" "${SERVE_CHAMPION:?}" "${STACK_ADDRESS:?}" "${SERVE_PORT:?}"
: "${POSTGRES_HOST:?}" "${POSTGRES_PORT:?}" "${POSTGRES_USER:?}" "${POSTGRES_PASSWORD:?}" "${POSTGRES_DB:?}"
# The driver takes what the address leaves out from here: no password on a command line, none to escape.
export PGHOST="$POSTGRES_HOST" PGPORT="$POSTGRES_PORT" PGDATABASE="$POSTGRES_DB"
export PGUSER="$POSTGRES_USER" PGPASSWORD="$POSTGRES_PASSWORD"
export RAKUTEN_SERVE_CHAMPION="$SERVE_CHAMPION" RAKUTEN_SERVE_LOG=postgresql+psycopg://
export RAKUTEN_SERVE_API_KEYS="${SERVE_API_KEYS:-}" RAKUTEN_SERVE_WORKERS="${SERVE_WORKERS:-2}"
export BENTOML_HOME="${BENTOML_HOME:-$SERVE_FOLDER/outputs/bentoml}" BENTOML_DO_NOT_TRACK=True
mkdir -p "$BENTOML_HOME"
cd "$SERVE_FOLDER"
exec bentoml serve --host "$STACK_ADDRESS" --port "$SERVE_PORT"
