# Easel in a container. CPU by default:
#   docker build -t easel . && docker run -p 127.0.0.1:7860:7860 -v easel-data:/data easel
# NVIDIA: a CUDA base, and the host's driver through the container toolkit (PyPI's torch for Linux brings CUDA itself):
#   docker build --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 -t easel-cuda . && docker run --gpus all ...
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# Where pip finds torch: for a small CPU image name the CPU index of the torch project here.
ARG TORCH_INDEX_URL=""
ARG UID=1000

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && (id -un "${UID}" >/dev/null 2>&1 || useradd --create-home --uid "${UID}" easel) \
    && mkdir -p /easel /data/models /data/embeddings /data/loras /data/outputs \
    && chown -R "${UID}" /easel /data

USER ${UID}
WORKDIR /easel
ENV HOME=/easel PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

# The same steps as `make run`: the requirements first, so that a change of code does not install torch again.
COPY --chown=${UID} Makefile requirements.txt ./
RUN PIP_EXTRA_INDEX_URL="${TORCH_INDEX_URL}" make setup
COPY --chown=${UID} app.py LICENSE README.md ./
COPY --chown=${UID} webui webui
COPY --chown=${UID} models models

# models/, embeddings/, loras/, outputs/ and the database lie below it: volumes within volumes would hide them from -v easel-data:/data
VOLUME ["/data"]
EXPOSE 7860
# /internal/ping needs no password and tells nothing; /healthz, which names the worker's state, does need it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD curl --silent --fail --output /dev/null http://127.0.0.1:7860/internal/ping

# --listen prints a password that it makes, unless --gradio-auth user:password is given after the image's name.
ENTRYPOINT [".venv/bin/python", "app.py", "--listen", "--data-dir", "/data"]
