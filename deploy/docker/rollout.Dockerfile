# The rollout service. On vLLM's image it runs vLLM in its own process:
#   docker build -f deploy/docker/rollout.Dockerfile -t rlsd-rollout \
#     --build-arg BASE_IMAGE=vllm/vllm-openai:… --build-arg CONSTRAINTS=/dev/null .
# (no constraints there: torch and what goes with it are the base's). On a plain one it samples with
# transformers, or uses a server beside it, vLLM's or SGLang's own image (rollout.engine_url).
# Without a GPU: --build-arg TORCH_FROM='--index-url https://download.pytorch.org/whl/cpu' saves 3 GB.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG TORCH_FROM=""
ARG CONSTRAINTS=constraints.txt
WORKDIR /src
# With the base's packages: a torch that is there is not installed again.
RUN python3 -m venv --system-site-packages /opt/rlsd \
 && /opt/rlsd/bin/pip install --no-cache-dir ${TORCH_FROM} 'torch>=2.9,<2.14'
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY rlsd rlsd
COPY services services
RUN /opt/rlsd/bin/pip install --no-cache-dir -c ${CONSTRAINTS} '.[rollout,s3]'

FROM ${BASE_IMAGE}
COPY --from=build /opt/rlsd /opt/rlsd
COPY examples/chain /opt/rlsd/examples/chain
ENV PATH=/opt/rlsd/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
# Runs are written to /srv/runs: a volume mounted there takes its owner from here.
RUN mkdir -p /srv/runs && chown 10001:10001 /srv/runs
WORKDIR /srv
USER 10001:10001
EXPOSE 50051 9464
ENTRYPOINT ["python", "-m", "services.rollout"]
CMD ["--config", "/etc/rlsd/config.json", "--bind", "0.0.0.0:50051", "--metrics", "0.0.0.0:9464"]
