# docker build -t crb_dspy .
# docker run --rm -it -v crb_models:/models -v "$PWD:/data" crb_dspy compile
# docker run --rm -it -v "$PWD:/data" -p 127.0.0.1:5000:5000 --entrypoint mlflow crb_dspy \
#   ui --app-name crb_dspy --workers 1 --backend-store-uri sqlite:///mlruns/mlflow.db --host 0.0.0.0
FROM python:3.11-slim AS built

# No wheel for every processor: what is built here needs a compiler, what runs does not.
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential \
 && python -m venv /venv
# What the package is made of alone: reports and runs that lie beside it stay out of the image.
COPY pyproject.toml constraints.txt README.md LICENSE /source/
COPY crb_dspy /source/crb_dspy
COPY programs /source/programs
COPY optimizers /source/optimizers
COPY experiments/*.toml /source/experiments/
COPY experiments/published /source/experiments/published
RUN /venv/bin/pip install --no-cache-dir --constraint /source/constraints.txt "/source[local,hub,tools]"

FROM python:3.11-slim

# The embedded model's library computes with it.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=built /venv /venv
# The model is fetched once, into a volume; reports and runs lie in another.
ENV PATH=/venv/bin:$PATH CRB_HOME=/models
VOLUME ["/models", "/data"]
WORKDIR /data
EXPOSE 5000
ENTRYPOINT ["crb_dspy"]
