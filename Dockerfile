# The runtime image:
#   docker build -t smdguard .
#   docker run --rm -v "$PWD:/images:ro" smdguard predict /images/zoo/samples/digit-7.png

FROM python:3.11-slim AS requirements
COPY pyproject.toml .
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    > /requirements.txt

FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
# Newer versions of pip read the second name for what builds the wheel.
RUN PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
    pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
# What is mounted and not copied stays out of the image. The gigabytes come first, in a layer that lasts as long as the
# requirements do.
RUN --mount=type=bind,from=requirements,source=/requirements.txt,target=/requirements.txt \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --constraint /constraints.txt --requirement /requirements.txt
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl
# A home of its own, for the cache of downloaded models.
RUN useradd --create-home --uid 1000 smdguard
USER smdguard
WORKDIR /home/smdguard
ENTRYPOINT ["smdguard"]
CMD ["--help"]
