# celslm for people with Docker; ./dev does the same without it.
#   docker build -t celslm .
#   docker buildx build --platform linux/amd64,linux/arm64 -t celslm .
#   docker run --rm -p 8080:8080 -v "$PWD/models:/models:ro" celslm edge --model /models/small.gguf --host 0.0.0.0 --insecure --port 8080
# deploy/compose.yaml and deploy/kubernetes start clouds and edges from this image.

# Makes the Debian package, on a machine of any architecture: for arm64 the compiler is a cross compiler, nothing is emulated.
FROM --platform=$BUILDPLATFORM debian:forky AS build
ARG TARGETARCH
# The mirror's Release file may be past its validity date; signatures are still checked.
RUN printf 'Acquire::Check-Valid-Until "false";\nAcquire::Retries "5";\n' >/etc/apt/apt.conf.d/90celslm
# Only what tells which packages are needed at first, so that a change of the code does not install them again.
COPY dev packages.txt /opt/celslm/
COPY scripts/sysroot /opt/celslm/scripts/
WORKDIR /opt/celslm
RUN if [ "$TARGETARCH" = "$(dpkg --print-architecture)" ]; then ./dev setup base package; else ./dev setup base package "$TARGETARCH"; fi
COPY . .
RUN ./dev package "$TARGETARCH"

# What runs: the program and the libraries that it needs.
FROM debian:forky-slim
RUN --mount=type=bind,from=build,source=/opt/celslm/build/package,target=/package \
    apt-get -o Acquire::Check-Valid-Until=false -o Acquire::Retries=5 update \
 && DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=5 install -y --no-install-recommends ca-certificates /package/celslm_*.deb \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -m 0750 -o 64300 -g 64300 /var/lib/celslm
# A number, so that Kubernetes can tell that it is not root. Data and models are in /var/lib/celslm.
USER 64300:64300
ENV XDG_DATA_HOME=/var/lib CELSLM_CACHE=/var/lib/celslm
VOLUME /var/lib/celslm
ENTRYPOINT ["celslm"]
