# The sidecar: the wheel with its `sidecar` extra, and nothing of an engine. Build it from the repository's root:
#
#   docker build -f deploy/docker/sidecar.Dockerfile -t turbospec-sidecar .
#   docker run --read-only -v turbospec:/run/turbospec -p 127.0.0.1:50052:50052 \
#     -e TURBOSPEC_INTROSPECTION_ADDRESS=0.0.0.0:50052 -e TURBOSPEC_ALLOW_PLAINTEXT_NETWORK=true turbospec-sidecar
#
# Inside a container "every address" is that container's own network, so what is reachable is what -p publishes:
# here the host's loopback. The engine's container mounts the volume and finds the control socket in it.
# BASE may be any image with Python 3.11 or newer and venv.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/turbospec
# Locked first: this layer stays while the sources change.
COPY requirements/sidecar.txt requirements/sidecar.txt
RUN /opt/turbospec/bin/pip install --no-cache-dir --no-compile --no-deps -r requirements/sidecar.txt
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY sidecar sidecar
COPY adapters adapters
COPY engines engines
RUN /opt/turbospec/bin/pip install --no-cache-dir --no-compile --no-deps . \
 && /opt/turbospec/bin/pip check \
 && /opt/turbospec/bin/turbospec --version \
 && /opt/turbospec/bin/pip uninstall -y -q setuptools pip

FROM ${BASE}
LABEL org.opencontainers.image.title="TurboSpec sidecar" \
      org.opencontainers.image.description="Closed-loop control of speculative decoding" \
      org.opencontainers.image.licenses="Apache-2.0"
# The group is the one whose members may use the control socket: give it to the engine's container too.
RUN groupadd --gid 10001 turbospec \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin turbospec \
 && install -d -o turbospec -g turbospec -m 0750 /run/turbospec /var/lib/turbospec /var/lib/turbospec/profiles
COPY --from=build /opt/turbospec /opt/turbospec
ENV PATH=/opt/turbospec/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TURBOSPEC_CONTROL_ADDRESS=unix:/run/turbospec/control.sock \
    TURBOSPEC_OPERATIONS_ADDRESS=unix:/run/turbospec/operations.sock \
    TURBOSPEC_PROFILES_DIRECTORY=/var/lib/turbospec/profiles
USER turbospec
VOLUME ["/run/turbospec", "/var/lib/turbospec/profiles"]
EXPOSE 50052 50053
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s CMD ["turbospec", "status"]
ENTRYPOINT ["turbospec"]
CMD ["serve"]
