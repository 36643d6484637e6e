#!/bin/sh
# The MLflow server, in its container and without one. Runs go to PostgreSQL, their files through the server to the bucket:
# a client needs MLFLOW_TRACKING_URI and nothing else.
set -eu
: "${POSTGRES_HOST:?}" "${POSTGRES_PORT:?}" "${POSTGRES_USER:?}" "${POSTGRES_PASSWORD:?}" "${POSTGRES_DB:?}"
: "${S3_BUCKET_NAME:?}" "${STACK_ADDRESS:?}" "${MLFLOW_PORT:?}" "${MLFLOW_WORKERS:?}"
unset MLFLOW_TRACKING_URI # its clients' business
# The driver takes what the address leaves out from here: no password on a command line, none to escape.
export MLFLOW_BACKEND_STORE_URI=postgresql+psycopg://
export PGHOST="$POSTGRES_HOST" PGPORT="$POSTGRES_PORT" PGDATABASE="$POSTGRES_DB"
export PGUSER="$POSTGRES_USER" PGPASSWORD="$POSTGRES_PASSWORD"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # seven more processes, for evaluating language models
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=1 GIT_PYTHON_REFRESH=quiet

python - <<'WAIT'
import sys, time
import psycopg

for _ in range(120):
    try:
        psycopg.connect(connect_timeout=5).close()
        sys.exit()
    except psycopg.OperationalError as error:
        said = str(error).strip()
        time.sleep(0.5)
sys.exit(f"PostgreSQL does not let MLflow in: {said}")
WAIT
exec mlflow server --host "$STACK_ADDRESS" --port "$MLFLOW_PORT" --workers "$MLFLOW_WORKERS" \
  --artifacts-destination "s3://$S3_BUCKET_NAME/mlflow"
