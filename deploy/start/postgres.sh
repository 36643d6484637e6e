#!/bin/sh
# PostgreSQL, in its container and without one: makes its folder and its database once, then serves.
set -eu
: "${POSTGRES_DATA:?}" "${POSTGRES_USER:?}" "${POSTGRES_PASSWORD:?}" "${POSTGRES_DB:?}"
: "${STACK_ADDRESS:?}" "${POSTGRES_PORT:?}"
cd /
umask 077
run=
if [ "$(id -u)" = 0 ]; then
  run="setpriv --reuid=postgres --regid=postgres --init-groups" # it refuses to run as root
fi

if [ ! -e "$POSTGRES_DATA" ]; then
  # Made under another name: what was cut off half way is made anew.
  new=$POSTGRES_DATA.new
  $run rm -rf "$new" "$new.password"
  printf '%s' "$POSTGRES_PASSWORD" | $run tee "$new.password" >/dev/null
  $run initdb --pgdata="$new" --username="$POSTGRES_USER" --pwfile="$new.password" --auth=scram-sha-256 \
    --no-locale --encoding=UTF8 --data-checksums >/dev/null
  $run rm "$new.password"
  # Who may come from where is said by the address it listens on; a password is asked of everyone.
  echo "host all all all scram-sha-256" | $run tee -a "$new/pg_hba.conf" >/dev/null
  if [ "$POSTGRES_DB" != postgres ]; then
    echo "CREATE DATABASE \"$POSTGRES_DB\"" | $run postgres --single -D "$new" postgres >/dev/null
  fi
  $run mv "$new" "$POSTGRES_DATA"
fi

$run postgres -D "$POSTGRES_DATA" -p "$POSTGRES_PORT" \
  -c "listen_addresses=$STACK_ADDRESS" -c unix_socket_directories= &
server=$!
# SIGTERM would have it wait until every client has left; SIGINT is its fast and clean end.
trap 'kill -INT "$server" 2>/dev/null' INT TERM
status=0
wait "$server" || status=$?
while kill -0 "$server" 2>/dev/null; do # a signal ends `wait` before the server has ended
  status=0
  wait "$server" || status=$?
done
exit "$status"
