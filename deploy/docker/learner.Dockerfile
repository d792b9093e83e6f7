# The learner. Several ranks: torchrun -m services.learner …
#   docker build -f deploy/docker/learner.Dockerfile -t rlsd-learner .
# Without a GPU: --build-arg TORCH_FROM='--index-url https://download.pytorch.org/whl/cpu' saves 3 GB.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG TORCH_FROM=""
WORKDIR /src
RUN python3 -m venv /opt/rlsd \
 && /opt/rlsd/bin/pip install --no-cache-dir ${TORCH_FROM} 'torch>=2.9,<2.14'
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY rlsd rlsd
COPY services services
RUN /opt/rlsd/bin/pip install --no-cache-dir -c constraints.txt '.[learner,s3,tracing]'

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
LABEL org.opencontainers.image.base.name=${BASE_IMAGE}
COPY --from=build /opt/rlsd /opt/rlsd
COPY examples/chain /opt/rlsd/examples/chain
ENV PATH=/opt/rlsd/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
# Runs are written to /srv/runs: a volume mounted there takes its owner from here.
RUN mkdir -p /srv/runs && chown 10001:10001 /srv/runs
WORKDIR /srv
USER 10001:10001
EXPOSE 50054 9464
ENTRYPOINT ["python", "-m", "services.learner"]
CMD ["--config", "/etc/rlsd/config.json", "--bind", "0.0.0.0:50054", "--metrics", "0.0.0.0:9464"]
