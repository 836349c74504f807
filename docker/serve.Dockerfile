# Serves a bundle by MLServer and ONNX Runtime: the Open Inference Protocol on 8080 (HTTP) and 8081 (gRPC), metrics on 8082.
#
#   docker build -f docker/serve.Dockerfile -t compresslab-serve .
#   docker run --rm -p 8080:8080 -p 8081:8081 -v "$PWD/runs/x/selected:/model:ro" compresslab-serve
#
# With the bundle baked in:
#
#   FROM compresslab-serve
#   COPY runs/x/selected /model
ARG BASE=python:3.11-slim-bookworm

# Only what this prints, not every change of pyproject.toml, makes the next stage new.
FROM ${BASE} AS requirements
WORKDIR /src
COPY pyproject.toml docker/requirements.py ./
RUN python requirements.py serve > requirements.txt

FROM ${BASE} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/venv
COPY docker/serve-constraints.txt ./
COPY --from=requirements /src/requirements.txt ./
RUN pip --python /opt/venv/bin/python install -c serve-constraints.txt -r requirements.txt \
    && find /opt/venv -type d -name tests -prune -exec rm -rf {} +

FROM dependencies AS source
COPY pyproject.toml README.md LICENSE ./
COPY compresslab compresslab
RUN pip --python /opt/venv/bin/python install --no-deps --prefix /opt/compresslab .

FROM ${BASE}
COPY --from=dependencies /opt/venv /opt/venv
# A layer of its own: a new version of the source is not a new copy of its dependencies.
COPY --from=source /opt/compresslab /opt/venv
# Any user may run it, also one that the image does not know: no home but /tmp, and a name for what asks for one.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=compresslab \
    XDG_CACHE_HOME=/tmp/.cache \
    MLSERVER_HOST=0.0.0.0 \
    MLSERVER_HTTP_PORT=8080 \
    MLSERVER_GRPC_PORT=8081 \
    MLSERVER_METRICS_PORT=8082
WORKDIR /tmp
USER 1000:1000
EXPOSE 8080 8081 8082
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-P", "-c", "\
import http.client, os, sys; \
server = http.client.HTTPConnection('127.0.0.1', int(os.environ['MLSERVER_HTTP_PORT']), timeout=4); \
server.request('GET', '/v2/health/ready'); \
sys.exit(server.getresponse().status != 200)"]
LABEL org.opencontainers.image.title="compresslab-serve" \
      org.opencontainers.image.description="Serve a compresslab bundle by the Open Inference Protocol" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["python", "-P", "-m", "compresslab.serving.mlserver_start"]
CMD ["/model"]
