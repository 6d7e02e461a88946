"""A real Envoy in front of an endpoint picker, configured as llm-d's stand-alone chart configures it.

    envoy = Envoy(folder, picker=("127.0.0.1", 9002))                     # the destination is one address in a header
    envoy = Envoy(folder, picker, engines=sim.addresses)                  # a list in the metadata, tried in order
    response = envoy.post("/v1/completions", body, subset_hint(["127.0.0.1:8000"]))
    response.headers[SERVED_BY], response.headers[ATTEMPTS]
    envoy.stat("http.client.ext_proc.picker.streams_failed")
    envoy.stop()

What differs from the chart serves the tests: addresses are of the loopback and ports are free ones, metadata goes to the
picker and comes back, two response headers tell which engine answered, and nothing ends a long answer.

Worth knowing of Envoy 1.40 with FULL_DUPLEX_STREAMED bodies: message_timeout does not apply, so a picker that says
nothing holds a request for ever; a picker that fails after the first of the body was sent is an error even when it may
fail open; content-length is removed, so an engine gets its request in chunks. A picker that is ill and well again within
a second is used late (common_lb_config.update_merge_window).
"""

import base64
import functools
import json
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format, struct_pb2

from .process import ROOT, Process
from .raw import RawConnection, Response
from .wait import eventually

DESTINATION = "x-gateway-destination-endpoint"
SERVED_BY = "x-served-by"  # of a response: address of the engine, as Envoy knows it
ATTEMPTS = "x-envoy-attempt-count"  # of a response: how many engines were tried
PICKER_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"

_SUBSET = "x-test-subset-hint"  # of a request; a filter before the picker moves it to the metadata
_TYPE = "type.googleapis.com/envoy."


def subset_hint(value) -> dict[str, str]:
    """Request header that becomes the metadata by which a gateway narrows the choice; `value` is a list of "ip:port", or
    whatever a wrong gateway might send."""
    parsed = json_format.ParseDict(value, struct_pb2.Value())
    return {_SUBSET: base64.b64encode(parsed.SerializeToString()).decode()}


@functools.cache
def envoy_binary() -> Path:
    done = subprocess.run([ROOT / "tools/peers/envoy"], check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())


@dataclass
class Options:
    """How Envoy deals with the picker and the engines."""

    picker_tls: bool = False  # takes any certificate
    picker_health: bool = False  # asks the picker's port for its health, and sends nothing while it is bad
    fail_open: bool = False  # a picker that fails, or is known to be ill, leaves the choice to Envoy
    engine_http2: bool = False  # h2c, for gRPC engines
    retries: int = 3  # to the next of `engines`


class Envoy:
    """One Envoy, in a process of its own, that asks the picker at `picker` where each request goes.

    Without `engines` it connects to whatever address the picker names: the header must hold a single one. With
    `engines` it knows only these, takes the list from the metadata, tries the next one when it cannot connect, and
    chooses by itself when the picker has not (Options.fail_open).
    """

    def __init__(
        self,
        folder: Path,
        picker: tuple[str, int],
        engines: list[tuple[str, int]] | None = None,
        options: Options = Options(),
    ):
        name = f"envoy-{uuid.uuid4().hex[:6]}"
        config = folder / f"{name}.json"
        config.write_text(json.dumps(bootstrap(picker, engines, options), indent=1))
        admin = folder / f"{name}.admin"
        args = ["--config-path", str(config), "--admin-address-path", str(admin), "--concurrency", "1"]
        args += ["--disable-hot-restart", "--log-level", "warning", "--drain-time-s", "1"]
        self.process = Process(args, folder, name, envoy_binary())
        try:
            self.admin = _parse(eventually(lambda: self._started(admin), "Envoy's admin address"))
            eventually(self._is_ready, "Envoy is ready")
            status = self.admin_get("/listeners?format=json").json()["listener_statuses"]
            socket = status[0]["local_address"]["socket_address"]
        except BaseException:
            self.process.kill()
            raise
        self.address = (socket["address"], socket["port_value"])

    def _started(self, admin: Path) -> str:
        if self.process.popen.poll() is not None:
            raise AssertionError(f"Envoy did not start:\n{self.process.stderr()[-4000:]}")
        return admin.read_text() if admin.exists() else ""

    def _is_ready(self) -> bool:
        return self.admin_get("/ready").status == 200

    def admin_get(self, path: str) -> Response:
        with RawConnection(self.admin) as connection:
            return connection.request("GET", path)

    def stat(self, name: str) -> int:
        """A counter or gauge by its full name; 0 when it has never been touched."""
        response = self.admin_get(f"/stats?format=json&filter=^{name.replace('.', '[.]')}$")
        found = [s["value"] for s in response.json()["stats"] if s.get("name") == name]
        return found[0] if found else 0

    def picker_is_healthy(self) -> bool:
        """What Options.picker_health has found last."""
        return self.stat("cluster.picker.membership_healthy") == 1

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    @property
    def target(self) -> str:
        """For a gRPC channel."""
        return f"{self.address[0]}:{self.address[1]}"

    def connect(self, **kwargs) -> RawConnection:
        return RawConnection(self.address, **kwargs)

    def request(
        self, method: str, path: str, body=b"", headers: dict[str, str] | None = None
    ) -> Response:
        """One request on an HTTP/1.1 connection of its own; a body that is no bytes is sent as JSON."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        with self.connect() as connection:
            return connection.request(method, path, body, headers)

    def post(self, path: str, body, headers: dict[str, str] | None = None) -> Response:
        return self.request("POST", path, body, headers)

    def stop(self) -> None:
        self.process.stop()


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.strip().rpartition(":")
    return host, int(port)


# --- what it is told


def bootstrap(picker: tuple[str, int], engines: list[tuple[str, int]] | None, options: Options) -> dict:
    """Envoy's static configuration."""
    return {
        "admin": {"address": _address("127.0.0.1", 0)},
        "static_resources": {
            "listeners": [_listener(engines, options)],
            "clusters": [_picker_cluster(picker, options), _engine_cluster(engines, options)],
        },
    }


def _address(host: str, port: int) -> dict:
    return {"socket_address": {"address": host, "port_value": port}}


def _typed(name: str, kind: str, **fields) -> dict:
    return {"name": name, "typed_config": {"@type": _TYPE + kind, **fields}}


def _listener(engines: list[tuple[str, int]] | None, options: Options) -> dict:
    route = {"cluster": "engines", "timeout": "0s", "idle_timeout": "0s"}
    if engines is not None:
        route["retry_policy"] = {
            "retry_on": "connect-failure,refused-stream",
            "num_retries": options.retries,
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.01s"},
        }
    hosts = {
        "name": "all",
        "domains": ["*"],
        "include_attempt_count_in_response": True,
        "routes": [
            {
                "match": {"prefix": "/"},
                "route": route,
                "response_headers_to_add": [
                    {"header": {"key": SERVED_BY, "value": "%UPSTREAM_REMOTE_ADDRESS%"}}
                ],
            }
        ],
    }
    manager = _typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="client",
        codec_type="AUTO",  # HTTP/1.1, and HTTP/2 with prior knowledge
        route_config={"name": "all", "virtual_hosts": [hosts]},
        http_filters=[
            _subset_filter(),
            _picker_filter(options),
            _typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router"),
        ],
        http2_protocol_options={
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 65536,
            "initial_connection_window_size": 1048576,
        },
        use_remote_address=True,
        preserve_external_request_id=True,
        normalize_path=True,
        merge_slashes=True,
        server_header_transformation="PASS_THROUGH",
        path_with_escaped_slashes_action="UNESCAPE_AND_REDIRECT",
        common_http_protocol_options={"headers_with_underscores_action": "REJECT_REQUEST"},
        stream_idle_timeout="0s",
    )
    return {
        "name": "client",
        "address": _address("127.0.0.1", 0),
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": [{"filters": [manager]}],
    }


def _subset_filter() -> dict:
    return _typed(
        "envoy.filters.http.header_to_metadata",
        "extensions.filters.http.header_to_metadata.v3.Config",
        request_rules=[
            {
                "header": _SUBSET,
                "on_header_present": {
                    "metadata_namespace": "envoy.lb.subset_hint",
                    "key": f"{DESTINATION}-subset",
                    "type": "PROTOBUF_VALUE",
                    "encode": "BASE64",
                },
                "remove": True,
            }
        ],
    )


def _picker_filter(options: Options) -> dict:
    return _typed(
        "envoy.filters.http.ext_proc",
        "extensions.filters.http.ext_proc.v3.ExternalProcessor",
        stat_prefix="picker",
        grpc_service={
            "envoy_grpc": {"cluster_name": "picker", "authority": "localhost:9002"},
            "timeout": "10s",
        },
        processing_mode={
            "request_header_mode": "SEND",
            "response_header_mode": "SEND",
            "request_body_mode": "FULL_DUPLEX_STREAMED",
            "response_body_mode": "FULL_DUPLEX_STREAMED",
            "request_trailer_mode": "SEND",
            "response_trailer_mode": "SEND",
        },
        message_timeout="1000s",
        failure_mode_allow=options.fail_open,
        metadata_options={
            "forwarding_namespaces": {"untyped": ["envoy.lb.subset_hint"]},
            "receiving_namespaces": {"untyped": ["envoy.lb"]},
        },
    )


def _http2() -> dict:
    kind = "extensions.upstreams.http.v3.HttpProtocolOptions"
    windows = {"initial_stream_window_size": 65536, "initial_connection_window_size": 1048576}
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": _TYPE + kind,
            "explicit_http_config": {"http2_protocol_options": windows},
        }
    }


def _no_breaker() -> dict:
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 40_000)
    return {"thresholds": [limits]}


def _members(name: str, addresses: list[tuple[str, int]]) -> dict:
    endpoints = [{"endpoint": {"address": _address(host, port)}} for host, port in addresses]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def _picker_cluster(picker: tuple[str, int], options: Options) -> dict:
    cluster = {
        "name": "picker",
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": _http2(),
        "load_assignment": _members("picker", [picker]),
        "circuit_breakers": _no_breaker(),
        "common_lb_config": {
            # Else a cluster whose only member is ill is used all the same.
            "healthy_panic_threshold": {"value": 0},
            # Else the threads that serve hear of a change of health up to 1 s later when the one before is younger than
            # that, and a picker that came back fast gets nothing while the statistics call it healthy.
            "update_merge_window": "0s",
        },
    }
    if options.picker_tls:
        cluster["transport_socket"] = _typed(
            "envoy.transport_sockets.tls",
            "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            common_tls_context={"validation_context": {}},
        )
    if options.picker_health:
        cluster["health_checks"] = [
            {
                "timeout": "2s",
                "interval": "0.2s",
                "no_traffic_interval": "0.2s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "reuse_connection": True,
                "grpc_health_check": {"service_name": PICKER_SERVICE},
                "tls_options": {"alpn_protocols": ["h2"]},
            }
        ]
    return cluster


def _engine_cluster(engines: list[tuple[str, int]] | None, options: Options) -> dict:
    cluster = {"name": "engines", "connect_timeout": "10s", "circuit_breakers": _no_breaker()}
    if engines is None:
        cluster |= {
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION},
        }
    else:
        round_robin = _typed(
            "envoy.load_balancing_policies.round_robin",
            "extensions.load_balancing_policies.round_robin.v3.RoundRobin",
        )
        picked = _typed(
            "envoy.load_balancing_policies.override_host",
            "extensions.load_balancing_policies.override_host.v3.OverrideHost",
            override_host_sources=[
                {"metadata": {"key": "envoy.lb", "path": [{"key": DESTINATION}]}}
            ],
            fallback_policy={"policies": [{"typed_extension_config": round_robin}]},
        )
        cluster |= {
            "type": "STATIC",
            "load_balancing_policy": {"policies": [{"typed_extension_config": picked}]},
            "load_assignment": _members("engines", engines),
        }
    if options.engine_http2:
        cluster["typed_extension_protocol_options"] = _http2()
    return cluster
