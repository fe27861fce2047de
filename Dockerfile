# The server on a processor: no GPU, no network, no root.
#   docker build -t deepfake-detect .
#   docker run --rm -p 127.0.0.1:8000:8000 -e DEEPFAKE_DETECT_API_KEYS=... deepfake-detect

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY deepfake_detect deepfake_detect
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY --from=wheel /wheels /wheels
# The wheel names the versions that it needs.
# hadolint ignore=DL3013
RUN wheel=$(find /wheels -name '*.whl') \
    && pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" "${wheel}[server,openvino,heif]" \
    && rm -r /wheels \
    && useradd --system --uid 10001 --create-home --home-dir /home/detect detect
USER 10001
WORKDIR /home/detect
ENV HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 HF_HUB_DISABLE_TELEMETRY=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["deepfake-detect", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--model", "xception-fakefaces"]
