# JupyterLab with the exact environment: docker build -t colorstudy . && docker run --rm -p 8888:8888 colorstudy
# Binder and the devcontainer build it, too.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends chromium git make && rm -rf /var/lib/apt/lists/*
# Binder runs as a user with this id, which has to own what it writes.
ARG NB_USER=study
ARG NB_UID=1000
RUN useradd --create-home --uid ${NB_UID} ${NB_USER}
USER ${NB_USER}
WORKDIR /home/${NB_USER}/colorstudy
COPY --chown=${NB_UID} . .
# The lock names one torch for all machines; from this index comes its build without CUDA.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_NO_CACHE_DIR=1
RUN make .venv/.installed
ENV PATH=/home/${NB_USER}/colorstudy/.venv/bin:$PATH JUPYTER_PREFER_ENV_PATH=1
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "notebooks"]
