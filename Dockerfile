# The runtime image:
#   docker build -t smdguard .
#   docker run --rm -v "$PWD:/images:ro" smdguard predict /images/zoo/samples/digit-7.png

FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
# Mounted, not copied, so that neither the wheel nor the constraints stay in the image.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --constraint /constraints.txt /wheels/*.whl
# A home of its own, for the cache of downloaded models.
RUN useradd --create-home --uid 1000 smdguard
USER smdguard
WORKDIR /home/smdguard
ENTRYPOINT ["smdguard"]
CMD ["--help"]
