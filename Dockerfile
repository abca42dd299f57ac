# The challenge container. Build it with the weights to submit:
#   lumirkit container build --weights runs/demo/weights --tag lumirkit
# or, without the labels, docker build --build-arg WEIGHTS=runs/demo/weights -t lumirkit .
#
# A base image that brings its own torch of the pinned version is used as
# it is; otherwise torch comes from TORCH_INDEX (set it to "" for the one of the package index in use).
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu126
COPY constraints.txt submission/requirements.txt /source/
RUN python -m venv --system-site-packages /opt/lumirkit/venv \
    && /opt/lumirkit/venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
        --constraint /source/constraints.txt --requirement /source/requirements.txt
COPY pyproject.toml README.md LICENSE /source/
COPY lumirkit/__init__.py /source/lumirkit/
COPY lumirkit/base /source/lumirkit/base
COPY registration /source/lumirkit/registration
COPY data_manifests /source/lumirkit/data_manifests
COPY submission/*.py /source/lumirkit/submission/
RUN /opt/lumirkit/venv/bin/pip install --no-cache-dir --no-deps /source \
    && rm /opt/lumirkit/venv/bin/lumirkit # the command of the whole kit, most of which is not here

ARG WEIGHTS=submission/weights
COPY ${WEIGHTS}/ /opt/lumirkit/weights/
# A build without usable weights ends here, with the reason. Registering once leaves the compiled kernels in the image.
ENV PYTHONDONTWRITEBYTECODE=1
RUN /opt/lumirkit/venv/bin/python -m lumirkit.submission.warm_up /opt/lumirkit/weights && chmod -R a+rX /opt/lumirkit

FROM ${BASE_IMAGE}
COPY --from=build /opt/lumirkit /opt/lumirkit
ARG VERSION=unknown
ARG COMMIT=unknown
ARG WEIGHTS_SHA256=unknown
LABEL org.opencontainers.image.title="lumirkit" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      lumirkit.weights-sha256="${WEIGHTS_SHA256}"
# The caller's user has no home and no name here, and only the output folder may be writable.
ENV PATH=/opt/lumirkit/venv/bin:$PATH HOME=/tmp USER=lumirkit PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Steps of refinement of every pair, and its finest grid; `docker run -e` changes both.
ARG REFINE=0
ARG REFINE_GRID=
ENV LUMIRKIT_REFINE=${REFINE} LUMIRKIT_REFINE_GRID=${REFINE_GRID}
WORKDIR /opt/lumirkit
ENTRYPOINT ["python", "-m", "lumirkit.submission.entrypoint"]
