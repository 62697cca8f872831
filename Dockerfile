# Two images from one source: `--target cpu`, the default, and `--target gpu`.
# BASE is any Debian with Python 3.11 to 3.13, its venv module and certificates.
#
# If packages do not come from PyPI, pass two secrets, which no layer keeps: a file of variables for
# pip and uv (PIP_INDEX_URL, UV_DEFAULT_INDEX, PIP_FIND_LINKS, HTTPS_PROXY, ...), and certificates.
# The variables must then include SSL_CERT_FILE=/run/secrets/ca:
#   docker build --secret id=environment,src=build.env --secret id=ca,src=ca-certificates.crt .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
# tini reaps the engine's processes and passes SIGTERM on. vLLM's CPU kernels link to libnuma.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 libstdc++6 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && useradd --uid 10001 --user-group --home-dir /data --shell /usr/sbin/nologin grape \
    && install --directory --owner grape --group grape /data
WORKDIR /grape

# The locked packages: a change to GRAPE's own code does not rebuild this layer.
FROM base AS dependencies-cpu
COPY requirements requirements
COPY tools/install.py tools/install.py
COPY pyproject.toml pyproject.toml
RUN --mount=type=secret,id=environment --mount=type=secret,id=ca \
    --mount=type=cache,target=/cache \
    if [ -e /run/secrets/environment ]; then set -a; . /run/secrets/environment; fi; \
    PIP_CACHE_DIR=/cache/pip UV_CACHE_DIR=/cache/uv UV_LINK_MODE=copy GRAPE_ENGINE=cpu python3 tools/install.py --image

FROM base AS dependencies-gpu
COPY requirements requirements
COPY tools/install.py tools/install.py
COPY pyproject.toml pyproject.toml
RUN --mount=type=secret,id=environment --mount=type=secret,id=ca \
    --mount=type=cache,target=/cache \
    if [ -e /run/secrets/environment ]; then set -a; . /run/secrets/environment; fi; \
    PIP_CACHE_DIR=/cache/pip UV_CACHE_DIR=/cache/uv UV_LINK_MODE=copy GRAPE_ENGINE=cuda python3 tools/install.py --image

FROM base AS settings
# Everything is written to /data. Compiled code must be cached where it may be loaded from.
ENV PATH=/grape/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data \
    GRAPE_CACHE=/data \
    HF_HOME=/data/hub \
    TORCHINDUCTOR_CACHE_DIR=/data/compiled/inductor \
    TRITON_CACHE_DIR=/data/compiled/triton \
    UV_NO_CACHE=1
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=10s --start-period=15m --retries=4 \
    CMD ["python", "-m", "service.api.health_probe"]
ENTRYPOINT ["tini", "--", "grape"]
CMD ["serve"]

FROM settings AS gpu
# Triton compiles the launcher of each kernel on its first run, so this image needs a C compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=dependencies-gpu /grape/.venv /grape/.venv
RUN --mount=type=bind,target=/source,rw \
    uv pip install --quiet --offline --python /grape/.venv --no-deps --no-build-isolation \
    --compile-bytecode /source
USER 10001:10001

FROM settings AS cpu
COPY --from=dependencies-cpu /grape/.venv /grape/.venv
RUN --mount=type=bind,target=/source,rw \
    uv pip install --quiet --offline --python /grape/.venv --no-deps --no-build-isolation \
    --compile-bytecode /source
USER 10001:10001
