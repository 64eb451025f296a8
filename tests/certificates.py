"""A self-signed certificate for 127.0.0.1, made by the openssl program; without it the stories are skipped, loudly."""

import shutil
import subprocess
from pathlib import Path

import pytest


def make(folder: Path, *, days: int = 365, name: str = "gateway") -> tuple[Path, Path]:
    """Return the paths of a new certificate and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("NOT TESTED: TLS needs the openssl program to make a certificate, and there is none here")
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"),
            *("-days", str(days), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    key.chmod(0o600)
    return cert, key
