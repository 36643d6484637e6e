#!/bin/sh
# An S3 server for development, in its container and without one: a bucket is a folder, an object a file.
set -eu
: "${S3_DATA:?}" "${S3_BUCKET_NAME:?}" "${AWS_ACCESS_KEY_ID:?}" "${AWS_SECRET_ACCESS_KEY:?}"
: "${STACK_ADDRESS:?}" "${S3_PORT:?}"
mkdir -p "$S3_DATA/$S3_BUCKET_NAME"
# Not on the command line, which everyone on the machine can read. A list in CSV, of one pair.
RCLONE_AUTH_KEY=$(printf '"%s,%s"' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY")
export RCLONE_AUTH_KEY
exec rclone serve s3 --config= --addr "$STACK_ADDRESS:$S3_PORT" "$S3_DATA"
