"""Receives OTLP with the official Python packages, and tells what came, one JSON document a line.

Usage: receive.py

The first line has the ports: {"grpc": …, "http": …}. Each request is a line with its protocol, signal, items, service and
encodings. It refuses the first request of every protocol and signal with a retry hint.
"""

import gzip
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

LOCK = threading.Lock()
SEEN = set()


def tell(document):
    with LOCK:
        print(json.dumps(document), flush=True)


def is_first(protocol, signal):
    with LOCK:
        first = (protocol, signal) not in SEEN
        SEEN.add((protocol, signal))
        return first


def summary(request):
    """The signal, the items' names, and the services of a request."""
    if hasattr(request, "resource_spans"):
        signal, resources = "traces", request.resource_spans
        items = [s.name for r in resources for scope in r.scope_spans for s in scope.spans]
    elif hasattr(request, "resource_logs"):
        signal, resources = "logs", request.resource_logs
        items = [l.body.string_value for r in resources for scope in r.scope_logs for l in scope.log_records]
    else:
        signal, resources = "metrics", request.resource_metrics
        items = [m.name for r in resources for scope in r.scope_metrics for m in scope.metrics]
    services = {
        a.value.string_value for r in resources for a in r.resource.attributes if a.key == "service.name"
    }
    return {"signal": signal, "items": items, "services": sorted(services)}


def handle(response):
    def export(_self, request, context):
        seen = summary(request)
        metadata = dict(context.invocation_metadata())
        seen |= {"protocol": "grpc", "tenant": metadata.get("x-tenant"), "agent": metadata.get("user-agent")}
        if is_first("grpc", seen["signal"]):
            info = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=50_000_000))
            status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="come again: grüße")
            status.details.add().Pack(info)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, status.message)
        tell(seen)
        return response()

    return export


def grpc_server():
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 64 << 20)])
    for module, service, response in (
        (trace_service_pb2_grpc, "TraceService", trace_service_pb2.ExportTraceServiceResponse),
        (metrics_service_pb2_grpc, "MetricsService", metrics_service_pb2.ExportMetricsServiceResponse),
        (logs_service_pb2_grpc, "LogsService", logs_service_pb2.ExportLogsServiceResponse),
    ):
        servicer = type(service, (getattr(module, f"{service}Servicer"),), {"Export": handle(response)})
        getattr(module, f"add_{service}Servicer_to_server")(servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        encoding = self.headers.get("content-encoding")
        if encoding == "gzip":
            body = gzip.decompress(body)
        request = {
            "/v1/traces": trace_service_pb2.ExportTraceServiceRequest,
            "/v1/metrics": metrics_service_pb2.ExportMetricsServiceRequest,
            "/v1/logs": logs_service_pb2.ExportLogsServiceRequest,
        }[self.path]()
        request.ParseFromString(body)
        seen = summary(request)
        seen |= {"protocol": "http", "encoding": encoding, "tenant": self.headers.get("x-tenant")}
        refused = is_first("http", seen["signal"])
        if not refused:
            tell(seen)
        self.send_response(503 if refused else 200)
        if refused:
            self.send_header("retry-after", "0")
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        pass


def main():
    server, grpc_port = grpc_server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tell({"grpc": grpc_port, "http": http.server_port})
    threading.Thread(target=http.serve_forever, daemon=True).start()
    server.wait_for_termination()


if __name__ == "__main__":
    sys.exit(main())
