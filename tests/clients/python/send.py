"""Sends spans, metric points and log records with the official Python SDK, unchanged.

Usage: send.py (grpc|http) ENDPOINT (none|gzip) SERVICE

Exits with 1 when an exporter reports a failure.
"""

import logging
import sys

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

SPANS = 20
RECORDS = 15


class Failures(logging.Handler):
    """The SDK reports failed exports only through logging."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.seen = []

    def emit(self, record):
        self.seen.append(record.getMessage())


def exporters(protocol, endpoint, compression):
    if protocol == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        kind = Compression.Gzip if compression == "gzip" else Compression.NoCompression
        options = {"endpoint": endpoint, "insecure": True, "compression": kind}
        return OTLPSpanExporter(**options), OTLPMetricExporter(**options), OTLPLogExporter(**options)

    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    kind = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    return (
        OTLPSpanExporter(f"{endpoint}/v1/traces", compression=kind),
        OTLPMetricExporter(f"{endpoint}/v1/metrics", compression=kind),
        OTLPLogExporter(f"{endpoint}/v1/logs", compression=kind),
    )


def main(protocol, endpoint, compression, service):
    failures = Failures()
    logging.getLogger("opentelemetry").addHandler(failures)
    span_exporter, metric_exporter, log_exporter = exporters(protocol, endpoint, compression)
    resource = Resource.create({"service.name": service})

    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(span_exporter))
    meters = MeterProvider(
        resource=resource,
        metric_readers=[PeriodicExportingMetricReader(metric_exporter, export_interval_millis=600_000)],
    )
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(log_exporter))

    tracer = tracers.get_tracer("client", "1.0")
    for number in range(SPANS):
        with tracer.start_as_current_span(f"span {number}") as span:
            span.set_attribute("number", number)
            span.set_attribute("text", "grüße, 世界")
            span.add_event("event", {"list": [1, 2, 3]})

    meter = meters.get_meter("client")
    meter.create_counter("requests", unit="1").add(7, {"route": "/"})
    meter.create_histogram("duration", unit="ms").record(12.5)

    logger = logging.getLogger("client")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(LoggingHandler(logger_provider=loggers))
    for number in range(RECORDS):
        logger.info("record %d", number, extra={"number": number})

    flushed = [provider.force_flush() for provider in (tracers, meters, loggers)]
    for provider in (tracers, meters, loggers):
        provider.shutdown()
    if not all(flushed) or failures.seen:
        sys.exit(f"flushed: {flushed}, failures: {failures.seen}")


if __name__ == "__main__":
    main(*sys.argv[1:])
