"""Certificates of the tests, made on the spot by the openssl command."""

import subprocess
from pathlib import Path


def make_certificate(
    folder: Path, name: str = "localhost", address: str = "127.0.0.1"
) -> tuple[bytes, bytes]:
    """Writes tls.crt and tls.key, self-signed and good for `name` and `address`, to `folder`; returns both in PEM."""
    folder.mkdir(parents=True, exist_ok=True)
    chain, key = folder / "tls.crt", folder / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:{address}"]
    command += ["-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return chain.read_bytes(), key.read_bytes()
