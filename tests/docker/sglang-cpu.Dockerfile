# SGLang's scheduler, models and server on a CPU, under control. For tests only: SGLang has no CPU build that could be
# installed, so its compiled operators are replaced by tests/support/sglang_cpu. Built as vllm-cpu.Dockerfile is, from
# the repository's root and on the same bases.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE}
RUN groupadd --gid 10001 turbospec \
 && useradd --uid 10002 --gid 10001 --create-home --shell /usr/sbin/nologin sglang \
 && install -d -o 10001 -g 10001 -m 0750 /run/turbospec \
 && install -d -o 10002 -g 10001 -m 0755 /models \
 && python3 -m venv /opt/sglang
ENV PATH=/opt/sglang/bin:$PATH
WORKDIR /src
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY requirements/torch-cpu.txt requirements/sglang-cpu.txt requirements/sidecar.txt requirements/
RUN pip install --no-cache-dir --no-compile --no-deps -r requirements/torch-cpu.txt \
 || pip install --no-cache-dir --no-compile --no-deps -r requirements/torch-cpu.txt --index-url ${TORCH_INDEX}
RUN pip install --no-cache-dir --no-compile --no-deps -r requirements/sglang-cpu.txt -r requirements/sidecar.txt
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY sidecar sidecar
COPY adapters adapters
COPY engines engines
COPY tests/support/sglang_cpu stand-in
# SGLang switches to a CPU by this variable; compiling small helpers would take longer than all they do.
ENV SGLANG_USE_CPU_ENGINE=1 TORCHDYNAMO_DISABLE=1
RUN pip install --no-cache-dir --no-compile --no-deps --no-build-isolation . ./stand-in \
 && python -c "import sglang.launch_server, turbospec.adapters.client, turbospec.adapters.sglang.plugin"
COPY deploy/docker/serve_engine.py /usr/local/lib/turbospec/serve_engine.py
ENV PYTHONUNBUFFERED=1 TURBOSPEC_CONTROL_ADDRESS=unix:/run/turbospec/control.sock
USER sglang
WORKDIR /home/sglang
VOLUME ["/models"]
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m \
  CMD ["python3", "/usr/local/lib/turbospec/serve_engine.py", "--healthy"]
ENTRYPOINT ["python3", "/usr/local/lib/turbospec/serve_engine.py", "sglang"]
# What a CPU can bear and the stand-ins know. With one name for both attention backends SGLang falls back to one that
# cannot draft; and awake without requests its scheduler would take a core for itself.
CMD ["--device", "cpu", "--dtype", "float32", "--prefill-attention-backend", "intel_amx", \
     "--decode-attention-backend", "intel_amx", "--disable-cuda-graph", "--disable-overlap-schedule", \
     "--disable-radix-cache", "--max-total-tokens", "8192", "--max-running-requests", "8", \
     "--sleep-on-idle", "--skip-server-warmup"]
