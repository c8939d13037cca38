# celslm for people with Docker; ./dev does the same without it.
#   docker build -t celslm .
#   docker run --rm -p 8080:8080 -v "$PWD/models:/models:ro" celslm edge --model /models/small.gguf --host 0.0.0.0 --insecure --port 8080
FROM debian:forky

# Only the list at first, so that a change of the code installs nothing anew. The mirror's Release file may be past its validity
# date; signatures are still checked.
COPY packages.txt /tmp/packages.txt
RUN apt-get -o Acquire::Check-Valid-Until=false -o Acquire::Retries=5 update \
 && awk '/^\[/ {on = ($0 == "[base]"); next} /^[^#]/ && NF {if (on) print $1}' /tmp/packages.txt \
  | DEBIAN_FRONTEND=noninteractive xargs apt-get -o Acquire::Retries=5 -o APT::Install-Recommends=false install -y \
 && rm -rf /var/lib/apt/lists/*

COPY . /opt/celslm
WORKDIR /opt/celslm
RUN cmake --preset release && cmake --build --preset release --target celslm && ln -s /opt/celslm/build/release/celslm /usr/local/bin/celslm

ENTRYPOINT ["celslm"]
