// Sends spans, metric points and log records with the official JavaScript SDK, unchanged.
//
// Usage: send.js (grpc|http/protobuf|http/json) ENDPOINT (none|gzip) SERVICE
//
// Exits with 1 when an exporter reports a failure.
'use strict';

const { diag, DiagLogLevel } = require('@opentelemetry/api');
const { SeverityNumber } = require('@opentelemetry/api-logs');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BatchLogRecordProcessor, LoggerProvider } = require('@opentelemetry/sdk-logs');
const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');
const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');

const SPANS = 20;
const RECORDS = 15;

const PACKAGES = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };

// The SDK reports failed exports only through its diagnostics.
const failures = [];
const note = (...words) => failures.push(words.join(' '));
const quiet = () => {};
diag.setLogger({ error: note, warn: note, info: quiet, debug: quiet, verbose: quiet }, DiagLogLevel.WARN);

function exporter(signal, className, protocol, endpoint, compression) {
  const exported = require(`@opentelemetry/exporter-${signal}-otlp-${PACKAGES[protocol]}`);
  const path = { trace: 'traces', metrics: 'metrics', logs: 'logs' }[signal];
  const url = protocol === 'grpc' ? endpoint : `${endpoint}/v1/${path}`;
  return new exported[className]({ url, compression });
}

async function main(protocol, endpoint, compression, service) {
  const resource = resourceFromAttributes({ 'service.name': service });
  const make = (signal, className) => exporter(signal, className, protocol, endpoint, compression);
  const tracers = new BasicTracerProvider({
    resource,
    spanProcessors: [new BatchSpanProcessor(make('trace', 'OTLPTraceExporter'))],
  });
  const meters = new MeterProvider({
    resource,
    readers: [
      new PeriodicExportingMetricReader({
        exporter: make('metrics', 'OTLPMetricExporter'),
        exportIntervalMillis: 600_000,
      }),
    ],
  });
  const logProcessor = new BatchLogRecordProcessor({ exporter: make('logs', 'OTLPLogExporter') });
  const loggers = new LoggerProvider({ resource, processors: [logProcessor] });

  const tracer = tracers.getTracer('client', '1.0');
  for (let number = 0; number < SPANS; number++) {
    const span = tracer.startSpan(`span ${number}`, { attributes: { number, text: 'grüße, 世界' } });
    span.addEvent('event', { list: [1, 2, 3] });
    span.end();
  }
  const meter = meters.getMeter('client');
  meter.createCounter('requests', { unit: '1' }).add(7, { route: '/' });
  meter.createHistogram('duration', { unit: 'ms' }).record(12.5);
  const logger = loggers.getLogger('client');
  for (let number = 0; number < RECORDS; number++) {
    logger.emit({
      severityNumber: SeverityNumber.INFO,
      severityText: 'INFO',
      body: `record ${number}`,
      attributes: { number },
    });
  }
  for (const provider of [tracers, meters, loggers]) {
    await provider.forceFlush();
    await provider.shutdown();
  }
  if (failures.length > 0) throw new Error(failures.join('\n'));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
