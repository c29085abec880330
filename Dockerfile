# CPAL in a container, on a CPU or an NVIDIA GPU:
#   docker build -t cpal .                                              CPU
#   docker build -t cpal --build-arg TORCH=cuda .                       GPU; run it with --gpus all
#   docker run --rm -v cpal:/cpal --shm-size 2g cpal make repro         the volume keeps settings, results and caches
# With --cpus N, --workers follows the quota by itself; PyTorch does not: add -e OMP_NUM_THREADS=N. More:
# docs/installation.md
ARG BASE=python:3.13-slim-bookworm
FROM ${BASE}
ARG TORCH=cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /cpal
COPY . .
# DVC works in a git repository; a copy without .git gets one of its own.
RUN git rev-parse --git-dir >/dev/null 2>&1 \
    || (git init --quiet && git add --all && git -c user.name=cpal -c user.email=cpal@localhost commit --quiet -m "CPAL")
# Results must be files of their own, and no links into DVC's cache, where only data/ is mounted from outside.
RUN make setup TORCH=${TORCH} && .venv/bin/dvc config --local cache.type copy
ENV PATH=/cpal/.venv/bin:$PATH
CMD ["make", "help"]
