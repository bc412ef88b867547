"""Reads and verifies what an authority publishes and issues, with libraries of PyPI. It knows nothing of ours."""

import json
import sys

import jwt
from spiffe import JwtBundle, JwtSvid, TrustDomain


def by_jwks(set_file: str, token_file: str, audience: str, issuer: str) -> str:
    """As a service without SPIFFE does: PyJWT, and the key of the set that the header names."""
    with open(set_file) as file:
        keys = jwt.PyJWKSet.from_json(file.read())
    with open(token_file) as file:
        token = file.read()
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token,
        key,
        algorithms=[key.algorithm_name],
        audience=audience,
        issuer=issuer,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "jti"]},
    )
    return claims["sub"]


def by_bundle(bundle_file: str, token_file: str, audience: str, trust_domain: str) -> str:
    """As a workload with a library of SPIFFE does."""
    with open(bundle_file, "rb") as file:
        bundle = JwtBundle.parse(TrustDomain(trust_domain), file.read())
    with open(token_file) as file:
        svid = JwtSvid.parse_and_validate(file.read(), bundle, {audience})
    return str(svid.spiffe_id)


if __name__ == "__main__":
    command = {"jwks": by_jwks, "bundle": by_bundle}[sys.argv[1]]
    json.dump({"subject": command(*sys.argv[2:])}, sys.stdout)
