"""Where Prometheus scrapes: HTTP in threads of its own, so that the event loop only hands out numbers."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from turbospec.adapters.address import Address
from turbospec.sidecar.server.listeners import ListenError
from turbospec.sidecar.server.metrics.collector import EngineCollector, UnavailableError

# A pair of Prometheus servers and some people; more would only compete with the engines for the interpreter.
MOST_SCRAPES = 8
CLIENT_SECONDS = 10.0  # a client that neither asks nor reads would keep its place


class MetricsEndpoint:
    """Listens from the start, and answers between `start` and `close`. Raises `ListenError`."""

    def __init__(self, address: Address, collector: EngineCollector) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        ProcessCollector(registry=registry)
        try:
            self._server = _Server(address)
        except OSError as error:
            raise ListenError(
                f"cannot listen on {address.target} for metrics: {error.strerror or error}. "
                "Is another server there?"
            ) from error
        self._server.set_app(_answering(make_wsgi_app(registry)))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self.address = Address(host=address.host, port=self._server.server_port)

    def start(self) -> None:
        """Answers from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stops listening; waits up to half a second, so it is not for the event loop's thread."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for each scrape tells nobody anything."""


class _Server(ThreadingWSGIServer):
    allow_reuse_port = False  # a second controller must not take half of the scrapes

    def __init__(self, address: Address) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._places = threading.BoundedSemaphore(MOST_SCRAPES)
        super().__init__((address.host, address.port), _Handler)

    def server_bind(self) -> None:
        # http.server's own asks the resolver for this host's full name, which can take long and is not used.
        socketserver.TCPServer.server_bind(self)
        host, port, *_ = self.server_address
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hangs up on those for whom there is no place."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that goes away in the middle is no event."""


_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _answering(metrics: _Application) -> _Application:
    """Says 503 where the engines could not be read: to Prometheus the scrape has failed, and rightly."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            return metrics(environ, start_response)
        except UnavailableError as error:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{error}\n".encode()]

    return application
