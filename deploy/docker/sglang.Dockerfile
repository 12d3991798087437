# SGLang with TurboSpec beside it: NOT THERE YET. This version has no adapter for SGLang and no `turbospec engine
# sglang`: the image builds, and its container stops with that message. It is here so that the compose file, the
# variables and the image's layout are settled; once the adapter exists, the import below checks it, and nothing else
# changes. Build it from the repository's root:
#
#   docker build -f deploy/docker/sglang.Dockerfile -t turbospec-sglang .
ARG BASE=lmsysorg/sglang:v0.5.23
ARG BUILD_BASE=python:3.11-slim-bookworm

FROM ${BUILD_BASE} AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY sidecar sidecar
COPY adapters adapters
COPY engines engines
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${BASE}
LABEL org.opencontainers.image.title="SGLang with TurboSpec beside it" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=wheel /wheels /tmp/wheels
# What upstream pinned stays: pip's own check must say the same before and after.
RUN python3 -m pip check > /tmp/before; \
    python3 -m pip install --no-cache-dir --no-deps /tmp/wheels/turbospec-*.whl \
 && { python3 -c "import grpc" 2> /dev/null || python3 -m pip install --no-cache-dir "grpcio>=1.71.2"; } \
 && { python3 -m pip check > /tmp/after; diff /tmp/before /tmp/after; } \
 && rm -r /tmp/wheels /tmp/before /tmp/after
# A protobuf older than the generated code must fail here and not in production.
RUN python3 -c "import turbospec.adapters.client, turbospec.v1.speculation_pb2_grpc"
COPY deploy/docker/serve_engine.py /usr/local/lib/turbospec/serve_engine.py
# The sidecar's group owns the sockets; compose and Kubernetes give it to this container.
RUN install -d -o 10001 -g 10001 -m 0750 /run/turbospec
ENV TURBOSPEC_CONTROL_ADDRESS=unix:/run/turbospec/control.sock
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m \
  CMD ["python3", "/usr/local/lib/turbospec/serve_engine.py", "--healthy"]
ENTRYPOINT ["python3", "/usr/local/lib/turbospec/serve_engine.py", "sglang"]
