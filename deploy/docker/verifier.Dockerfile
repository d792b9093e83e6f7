# The verifier: no tensor library. The languages of code checks are those of the base image.
#   docker build -f deploy/docker/verifier.Dockerfile -t rlsd-verifier .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY rlsd rlsd
COPY services services
RUN python3 -m venv /opt/rlsd \
 && /opt/rlsd/bin/pip install --no-cache-dir -c constraints.txt '.[verifier,wasm,postgres,tracing]'
# The component of sandbox tier T3, so that no pod has to build it.
ENV RLSD_WASM_DIR=/opt/rlsd/wasm
RUN /opt/rlsd/bin/python -m services.verifier.checks.code.prepare \
 && /opt/rlsd/bin/pip uninstall --yes componentize-py

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
LABEL org.opencontainers.image.base.name=${BASE_IMAGE}
COPY --from=build /opt/rlsd /opt/rlsd
ENV PATH=/opt/rlsd/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    RLSD_WASM_DIR=/opt/rlsd/wasm
# Runs are written to /srv/runs: a volume mounted there takes its owner from here.
RUN mkdir -p /srv/runs && chown 10001:10001 /srv/runs
WORKDIR /srv
USER 10001:10001
EXPOSE 50052 8080 9464
ENTRYPOINT ["python", "-m", "services.verifier"]
CMD ["--bind", "0.0.0.0:50052", "--http", "0.0.0.0:8080", "--metrics", "0.0.0.0:9464"]
