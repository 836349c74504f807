# Measures, compares and gates models: no torch, no onnx.
#
#   docker build -f docker/gate.Dockerfile -t compresslab-gate .
#   docker run --rm -v "$PWD:/data:ro" compresslab-gate gate runs/x --budget budget.yaml
ARG BASE=python:3.11-slim-bookworm

# Only what this prints, not every change of pyproject.toml, makes the next stage new.
FROM ${BASE} AS requirements
WORKDIR /src
COPY pyproject.toml docker/requirements.py ./
RUN python requirements.py gate text > requirements.txt

FROM ${BASE} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/venv
COPY constraints.txt ./
COPY --from=requirements /src/requirements.txt ./
# The tests that numpy, scipy and scikit-learn carry are a seventh of the image.
RUN pip --python /opt/venv/bin/python install -c constraints.txt -r requirements.txt \
    && find /opt/venv -type d -name tests -prune -exec rm -rf {} +

FROM dependencies AS source
COPY pyproject.toml README.md LICENSE ./
COPY compresslab compresslab
RUN pip --python /opt/venv/bin/python install --no-deps --prefix /opt/compresslab .

FROM ${BASE}
COPY --from=dependencies /opt/venv /opt/venv
# A layer of its own: a new version of the source is not a new copy of its dependencies.
COPY --from=source /opt/compresslab /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=compresslab \
    XDG_CACHE_HOME=/tmp/.cache
WORKDIR /data
USER 1000:1000
LABEL org.opencontainers.image.title="compresslab-gate" \
      org.opencontainers.image.description="Gate ONNX models on latency, size and accuracy budgets" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["compresslab"]
CMD ["--help"]
