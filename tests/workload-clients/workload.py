"""A workload that uses the package spiffe: SOCKET UID. Prints what it receives as JSON."""

import json
import os
import sys

import grpc  # noqa: F401  imported before the user changes, who may not read the packages
from spiffe import WorkloadApiClient


def main(socket: str, uid: int) -> None:
    os.environ["SPIFFE_ENDPOINT_SOCKET"] = "unix://" + socket
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    with WorkloadApiClient() as client:
        svid = client.fetch_x509_svid()
        jwt = client.fetch_jwt_svid(audience={"x", "y"})
        bundles = client.fetch_jwt_bundles()
        valid = client.validate_jwt_svid(jwt.token, "x")
        ids = [str(one.spiffe_id) for one in (svid, jwt, valid)]
        domains = [str(one.trust_domain) for one in bundles.bundles]
        print(json.dumps({"ids": ids, "domains": domains, "audiences": sorted(jwt.audience)}))


try:
    main(sys.argv[1], int(sys.argv[2]))
except Exception as error:  # whatever the package raises
    print(json.dumps({"error": str(error)}))
    sys.exit(1)
