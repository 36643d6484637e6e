FROM python:3.11.15-slim-bookworm
ENV PYTHONUNBUFFERED=1
COPY deploy/serve.lock /tmp/serve.lock
RUN pip install --no-cache-dir --no-deps --require-hashes -r /tmp/serve.lock \
    && useradd --uid 10001 --no-create-home --home-dir /tmp serve \
    && install --directory --owner 10001 --group 10001 /service/outputs
COPY rakuten /service/rakuten
COPY conf/serve.yaml /service/conf/serve.yaml
COPY bentofile.yaml /service/bentofile.yaml
COPY deploy/start/serve.sh /start/serve.sh
USER 10001:10001
WORKDIR /service
EXPOSE 8000
ENTRYPOINT ["sh", "/start/serve.sh"]
