"""An endpoint picker that always gives the same answer, by Google's gRPC: what Envoy and the protocol demand and no more.

It is what `penstock epp` is held against: a test that passes with it and fails with ours has found a mistake of ours.
"""

import concurrent.futures
from dataclasses import dataclass, field

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as ext_proc_grpc
from google.protobuf import json_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from .envoy import DESTINATION, PICKER_SERVICE
from .wait import PATIENCE_S

# Less than Envoy's windows of 64 KiB.
_MAX_CHUNK = 62_000


@dataclass
class Exchange:
    """What Envoy told of one request and its answer."""

    headers: dict[str, str] = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)  # namespace to content
    body: bytes = b""
    response_headers: dict[str, str] = field(default_factory=dict)
    response_body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    modes: set[str] = field(default_factory=set)  # body modes that Envoy says it has
    ended: bool = False  # the stream is over


class FixedPicker(ext_proc_grpc.ExternalProcessorServicer):
    """Sends every request to `destination`: "ip:port", or several with commas. `certificate` is (chain, key) in PEM."""

    def __init__(self, destination: str, certificate: tuple[bytes, bytes] | None = None):
        self.destination = destination
        self.exchanges: list[Exchange] = []
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=16))
        ext_proc_grpc.add_ExternalProcessorServicer_to_server(self, self._server)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.set_serving(True)
        if certificate is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            chain, key = certificate
            credentials = grpc.ssl_server_credentials([(key, chain)])
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.address = ("127.0.0.1", port)
        self._server.start()

    def set_serving(self, is_serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        self._health.set(PICKER_SERVICE, status.SERVING if is_serving else status.NOT_SERVING)

    def stop(self) -> None:
        self._server.stop(grace=0).wait(PATIENCE_S)

    def Process(self, request_iterator, context):
        exchange = Exchange()
        self.exchanges.append(exchange)
        try:
            for request in request_iterator:
                if request.HasField("protocol_config"):
                    exchange.modes = _modes(request.protocol_config)
                for namespace, content in request.metadata_context.filter_metadata.items():
                    exchange.metadata[namespace] = json_format.MessageToDict(content)
                yield from getattr(self, "_on_" + request.WhichOneof("request"))(request, exchange)
        finally:
            exchange.ended = True

    # The headers are answered when the body is whole: the choice may depend on it.
    def _on_request_headers(self, request, exchange):
        exchange.headers = _fields(request.request_headers.headers)
        if request.request_headers.end_of_stream:
            yield self._pick()

    def _on_request_body(self, request, exchange):
        exchange.body += request.request_body.body
        if request.request_body.end_of_stream:
            yield self._pick(len(exchange.body))
            yield from _body(exchange.body, True, "request_body")

    def _on_request_trailers(self, request, exchange):
        yield self._pick(len(exchange.body))
        yield from _body(exchange.body, False, "request_body")
        yield ext_proc.ProcessingResponse(request_trailers=ext_proc.TrailersResponse())

    def _on_response_headers(self, request, exchange):
        exchange.response_headers = _fields(request.response_headers.headers)
        yield ext_proc.ProcessingResponse(response_headers=ext_proc.HeadersResponse())

    def _on_response_body(self, request, exchange):
        part = request.response_body
        exchange.response_body += part.body
        yield from _body(part.body, part.end_of_stream, "response_body")

    def _on_response_trailers(self, request, exchange):
        exchange.trailers = _fields(request.response_trailers.trailers)
        yield ext_proc.ProcessingResponse(response_trailers=ext_proc.TrailersResponse())

    def _pick(self, length: int = 0):
        fields = {DESTINATION: self.destination} | ({"content-length": str(length)} if length else {})
        values = [base_pb2.HeaderValue(key=k, raw_value=v.encode()) for k, v in fields.items()]
        mutation = ext_proc.HeaderMutation(
            set_headers=[base_pb2.HeaderValueOption(header=value) for value in values]
        )
        common = ext_proc.CommonResponse(clear_route_cache=True, header_mutation=mutation)
        response = ext_proc.ProcessingResponse(
            request_headers=ext_proc.HeadersResponse(response=common)
        )
        response.dynamic_metadata.update({"envoy.lb": {DESTINATION: self.destination}})
        return response


def _fields(headers) -> dict[str, str]:
    return {h.key: (h.raw_value or h.value.encode()).decode() for h in headers.headers}


def _modes(config) -> set[str]:
    names = config.DESCRIPTOR.fields_by_name["request_body_mode"].enum_type.values_by_number
    return {names[config.request_body_mode].name, names[config.response_body_mode].name}


def _body(body: bytes, is_last: bool, phase: str):
    pieces = [body[i : i + _MAX_CHUNK] for i in range(0, len(body), _MAX_CHUNK)] or [b""]
    for i, piece in enumerate(pieces):
        streamed = ext_proc.StreamedBodyResponse(
            body=piece, end_of_stream=is_last and i == len(pieces) - 1
        )
        mutation = ext_proc.BodyMutation(streamed_response=streamed)
        common = ext_proc.CommonResponse(body_mutation=mutation)
        yield ext_proc.ProcessingResponse(**{phase: ext_proc.BodyResponse(response=common)})
