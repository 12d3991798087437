# SGLang under control: upstream's image, our wheel without dependencies, and gRPC and protobuf where they are missing.
# Build it from the repository's root:
#
#   docker build -f deploy/docker/sglang.Dockerfile -t turbospec-sglang .
#
# BASE is the pinned version that the adapter is tested with; any image with that SGLang will do.
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
LABEL org.opencontainers.image.title="SGLang under TurboSpec's control" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=wheel /wheels /tmp/wheels
COPY requirements/sidecar.txt /tmp/locked.txt
# What upstream pinned stays: pip's own check must say the same before and after. What is missing comes as it is locked.
RUN add="python3 -m pip install --no-cache-dir --no-deps --constraint /tmp/locked.txt"; \
    python3 -m pip check > /tmp/before; \
    $add /tmp/wheels/turbospec-*.whl \
 && { python3 -c "import grpc" 2> /dev/null || $add grpcio; } \
 && { python3 -c "import google.protobuf" 2> /dev/null || $add protobuf; } \
 && { python3 -m pip check > /tmp/after; diff /tmp/before /tmp/after; } \
 && rm -r /tmp/wheels /tmp/locked.txt /tmp/before /tmp/after
# A protobuf older than the generated code must fail here and not in production. What the adapter needs of SGLang it
# looks for at the start: importing SGLang's scheduler wants a GPU, which a build does not have.
RUN python3 -c "import turbospec.adapters.client, turbospec.adapters.sglang.plugin"
COPY deploy/docker/serve_engine.py /usr/local/lib/turbospec/serve_engine.py
# The sidecar's group owns the sockets; compose and Kubernetes give it to this container.
RUN install -d -o 10001 -g 10001 -m 0750 /run/turbospec
ENV TURBOSPEC_CONTROL_ADDRESS=unix:/run/turbospec/control.sock
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m \
  CMD ["python3", "/usr/local/lib/turbospec/serve_engine.py", "--healthy"]
ENTRYPOINT ["python3", "/usr/local/lib/turbospec/serve_engine.py", "sglang"]
