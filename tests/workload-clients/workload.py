"""A workload that uses the packages spiffe and spiffe-tls: SOCKET UID once | serve PEER | dial PEER ADDRESS. Prints what it
receives, a line of JSON each."""

import json
import os
import signal
import sys

import grpc  # noqa: F401  imported before the user changes, who may not read the packages
from spiffe import SpiffeId, WorkloadApiClient, X509Source
from spiffetls import ListenOptions, ServerTlsMode, dial, listen
from spiffetls.tlsconfig.authorize import authorize_id

GREETING = b"hello\n"
TIMEOUT = 180


def main(socket: str, uid: int, mode: str, *rest: str) -> None:
    os.environ["SPIFFE_ENDPOINT_SOCKET"] = "unix://" + socket
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    {"once": once, "serve": serve, "dial": greet}[mode](*rest)


def once() -> None:
    with WorkloadApiClient() as client:
        svid = client.fetch_x509_svid()
        jwt = client.fetch_jwt_svid(audience={"x", "y"})
        bundles = client.fetch_jwt_bundles()
        valid = client.validate_jwt_svid(jwt.token, "x")
        ids = [str(one.spiffe_id) for one in (svid, jwt, valid)]
        domains = [str(one.trust_domain) for one in bundles.bundles]
        say({"ids": ids, "domains": domains, "audiences": sorted(jwt.audience)})


def serve(peer: str) -> None:
    """Answers the clients with this SPIFFE ID, and says who was refused."""
    options = ListenOptions(tls_mode=ServerTlsMode.MTLS, authorize_fn=authorize_id(SpiffeId(peer)))
    with X509Source() as source:
        listener = listen("127.0.0.1:0", source, options)
        host, port = listener.getsockname()
        say({"address": f"{host}:{port}"})
        while True:
            connection, _ = listener.accept()
            try:
                connection.do_handshake()
                connection.sendall(received(connection))
                connection.shutdown()
                say({"peer": peer})
            except Exception as error:  # whatever the package raises
                say({"error": repr(error)})
            connection.close()


def greet(peer: str, address: str) -> None:
    """Greets the server with this SPIFFE ID, and waits until it has accepted this workload."""
    with X509Source() as source:
        connection = dial(address, source, authorize_fn=authorize_id(SpiffeId(peer)))
        connection.sendall(GREETING)
        received(connection)
        say({"peer": peer})


def received(connection) -> bytes:
    greeting = b""
    while len(greeting) < len(GREETING):
        greeting += connection.recv(len(GREETING))
    return greeting


def say(value: dict) -> None:
    print(json.dumps(value), flush=True)


signal.alarm(TIMEOUT)
try:
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
except Exception as error:  # whatever the package raises
    say({"error": str(error) or repr(error)})
    sys.exit(1)
