FROM python:3.11.15-slim-bookworm
ENV PYTHONUNBUFFERED=1
COPY deploy/mlflow.lock /tmp/mlflow.lock
RUN pip install --no-cache-dir --no-deps --require-hashes -r /tmp/mlflow.lock \
    && useradd --uid 10001 --no-create-home --home-dir /tmp mlflow
COPY deploy/start/mlflow.sh /start/mlflow.sh
USER 10001:10001
WORKDIR /tmp
EXPOSE 5000
ENTRYPOINT ["sh", "/start/mlflow.sh"]
