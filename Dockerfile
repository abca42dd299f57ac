# The challenge container. Build it with the weights to submit:
#   docker build --build-arg WEIGHTS=runs/demo/weights -t lumirkit .
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

COPY constraints.txt pyproject.toml README.md LICENSE /opt/lumirkit/source/
COPY registration /opt/lumirkit/source/registration
COPY data_manifests /opt/lumirkit/source/data_manifests
COPY train /opt/lumirkit/source/train
COPY submission/*.py /opt/lumirkit/source/submission/
COPY eval /opt/lumirkit/source/eval
COPY lumirkit /opt/lumirkit/source/lumirkit
RUN pip install --no-cache-dir --root-user-action=ignore \
        --constraint /opt/lumirkit/source/constraints.txt /opt/lumirkit/source \
    && rm -rf /opt/lumirkit/source

ARG WEIGHTS=submission/weights
COPY ${WEIGHTS}/ /opt/lumirkit/weights/
# A build without usable weights ends here, with the reason. Registering once leaves the compiled kernels in the image.
RUN lumirkit weights /opt/lumirkit/weights \
    && python -m submission.warm_up /opt/lumirkit/weights \
    && chmod -R a+rX /opt/lumirkit

# The caller's user has no home and no name here, and only the output folder may be writable.
ENV HOME=/tmp USER=lumirkit PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/lumirkit
ENTRYPOINT ["python", "-m", "submission.entrypoint"]
