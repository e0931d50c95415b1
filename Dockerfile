# One image for server, workers and examples: `gunicorn` (the default), `python worker.py` or
# `python online.py`.
# The base image is pinned by its digest. PYTHON_IMAGE names another one, such as a local copy.
ARG PYTHON_IMAGE=python:3.11.16-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84
FROM ${PYTHON_IMAGE} AS packages
WORKDIR /build
COPY locks/service.txt ./
# No package of apt is needed: the scikit-learn wheel contains libgomp. pip refuses what has another hash.
# The bytecode that pip compiles is kept: a running container cannot write any, and without it a
# worker takes more than twice as long to start. Files for developers are removed.
RUN python -m venv --without-pip /venv \
 && pip --python /venv/bin/python install --no-cache-dir --require-hashes --requirement service.txt \
 && find /venv/lib -depth -type d \( -path '*/site-packages/*/tests' -o -path '*/joblib/test' \
      -o -path '*/Crypto/SelfTest' -o -path '*/pyarrow/include' -o -name sample_data \) -exec rm -r {} + \
 && find /venv/lib -type f \( -name '*.h' -o -name '*.hpp' -o -name '*.a' -o -name '*.px[di]' -o -name '*.pyx' \) -delete

FROM ${PYTHON_IMAGE}
# A container writes to /tmp, which is also its HOME, and to two volumes, which get their owner here when they are
# new: /workers, with the lock files of the cores and the scratch folders of all workers, and /online, with the
# socket of the online workers.
RUN groupadd --gid 10001 rowcast \
 && useradd --uid 10001 --gid rowcast --home-dir /tmp --no-create-home --shell /usr/sbin/nologin rowcast \
 && install --directory --owner rowcast --group rowcast /workers /online
ENV PATH=/venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
COPY --from=packages /venv /venv
# The kernel closes a process whose program its user cannot read to others of that user, from its start. Work horses,
# which parse foreign bytes, must not find SIGNING_KEY in another process of their container.
RUN install --mode 0711 "$(readlink -f /venv/bin/python)" /venv/bin/python-hidden
WORKDIR /app
COPY . .
# The user can read the files whatever the umask of the checkout was.
RUN chmod -R a+rX . && python -m compileall -q .
USER 10001:10001
EXPOSE 8080
CMD ["gunicorn"]
