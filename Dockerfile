# docker build -t referral . && docker run -p 8000:8000 -v referral:/data referral
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 \
    REFERRAL_SERVER_HOST=0.0.0.0

WORKDIR /app

# The slim image has no compiler: whatever is compiled comes as a wheel, and no build tools are left.
COPY requirements.txt ./
RUN pip install --no-cache-dir --root-user-action=ignore -r requirements.txt

# What the defaults keep in var/ is kept in the volume. The number is fixed, that the owner of its files is, too.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin referral
# Platforms that give each container a user of its own put it into group 0, which therefore may do here what the owner may.
RUN mkdir /data && chown referral:0 /data && chmod g=u /data && ln -s /data var
VOLUME /data

COPY LICENSE config.toml run.py ./
COPY migrations migrations/
COPY sql sql/
COPY referral referral/
RUN python -m compileall -q referral

USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "run.py", "health"]
ENTRYPOINT ["python", "run.py"]
CMD ["serve"]
