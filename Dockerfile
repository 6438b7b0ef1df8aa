# syntax=docker/dockerfile:1
# fti on a CPU: `docker build -t fti .`, then see compose.yaml. The image holds the program, the
# default embedder and the built-in model, and no document: those live in the volume /data.

FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/fti
WORKDIR /src
# First what changes seldom, so that a change of the code does not fetch PyTorch again. PyPI's own
# builds of it carry several GB of CUDA; a build for the CPU (2.13.0+cpu) goes before them.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt ./
RUN /opt/fti/bin/pip install --extra-index-url "$TORCH_INDEX" -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY fti fti
COPY store store
COPY pipelines pipelines
COPY app app
COPY configs configs
RUN /opt/fti/bin/pip install -c constraints.txt .
# The built-in model is made here, once, and not at each start of a container.
RUN FTI_CACHE=/opt/fti/cache /opt/fti/bin/fti models fetch

FROM python:3.11-slim-bookworm
COPY --from=build /opt/fti /opt/fti
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin fti \
    && install --directory --owner fti --group fti /data
ENV PATH=/opt/fti/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FTI_STORE=/data \
    FTI_CACHE=/opt/fti/cache \
    HF_HUB_OFFLINE=1
USER 10001
WORKDIR /home/fti
VOLUME /data
EXPOSE 8000
# Longer than service.drain_s is what the engine should wait after SIGTERM (stop_grace_period).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["fti"]
# Listens for the other side of the container's port, so it asks for keys: make one with
# `docker run --rm -v fti-store:/data fti keys create NAME`, or say --allow-anonymous.
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
