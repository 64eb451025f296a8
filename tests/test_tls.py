"""TLS: the whole path over wss with our own client, and files that are wrong are told by the setting that names them."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pairing.certificate import CertificateUnreadable, expires_at
from pairing.refusals import Exit
from tests.certificates import make

PROGRAM = (sys.executable, "-m", "cli.main")
Serve = Callable[..., subprocess.Popen[str]]


class House:
    """A state folder, a port and a certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.cert, self.key = make(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.started: list[subprocess.Popen[str]] = []

    def env(self, **more: str) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PAIRING_", "SSL_"))}
        return env | {"PAIRING_HOME": str(self.home), "PAIRING_GATEWAY_PORT": str(self.port)} | more

    def serve(self, *args: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen([*PROGRAM, "serve", *args], env=self.env(), stdout=pipe, stderr=pipe, text=True)
        self.started.append(process)
        return process

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*PROGRAM, *args], env=self.env(**env), capture_output=True, text=True, timeout=60, check=False)

    def configure(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        (self.home / "config.toml").write_text(f'[gateway.tls]\ncert = "{self.cert}"\nkey = "{self.key}"\n')


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def test_the_whole_path_works_over_wss(house: House) -> None:
    """A device asks, is approved, returns with its token, every byte in TLS; who does not trust the certificate stays out."""
    house.configure()
    process = house.serve()
    assert process.stdout is not None
    assert process.stdout.readline() == f"pairing gateway listening on wss://127.0.0.1:{house.port}\n"
    token, url, trust = (house.home / "shared-token").read_text().strip(), f"wss://127.0.0.1:{house.port}", str(house.cert)
    ask = ("connect", "--home", str(house.folder / "phone"), "--url", url, "--header", "X-Forwarded-For: 203.0.113.7")
    refused = house.run(*ask, "--token", token, "--json", SSL_CERT_FILE=trust)
    assert refused.returncode == Exit.REFUSED, refused.stderr
    request = json.loads(refused.stdout)["error"]["details"]["requestId"]
    listed = json.loads(house.run("devices", "list", "--json").stdout)
    shown = next(entry for entry in listed["pending"] if entry["requestId"] == request)
    assert shown["requestId"] == request
    approved = house.run("devices", "approve", request)
    assert approved.returncode == 0, approved.stderr
    assert house.run(*ask, "--token", token, SSL_CERT_FILE=trust).returncode == 0
    assert house.run(*ask, SSL_CERT_FILE=trust).returncode == 0  # by its own token
    stranger = house.run(*ask, "--token", token)
    assert stranger.returncode == Exit.UNREACHABLE
    assert token not in stranger.stdout + stranger.stderr
    assert house.run("doctor").returncode == 0
    figures = urllib.request.urlopen(
        f"https://127.0.0.1:{house.port}/metrics", timeout=5, context=ssl.create_default_context(cafile=trust)
    )
    with figures:
        line = next(line for line in figures.read().decode().splitlines() if line.startswith("pairing_tls_certificate"))
    assert float(line.split()[1]) * 1000 == expires_at(house.cert)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


def missing(house: House, which: Path) -> str:
    which.unlink()
    return f"{which} cannot be read"


def nonsense(house: House, which: Path) -> str:
    which.write_text("nonsense")
    return f"{which} "


def another(house: House, which: Path) -> str:
    shutil.copy(make(house.folder, name="another")[1], house.key)
    return f"{house.key} does not belong to the certificate {house.cert}"


def locked(house: House, which: Path) -> str:
    program = str(shutil.which("openssl"))
    out = house.folder / "locked"
    encrypt = [program, "pkcs8", "-topk8", "-in", str(which), "-out", str(out), "-passout", "pass:x"]
    subprocess.run(encrypt, check=True, capture_output=True)
    shutil.move(out, which)
    return f"{which} is encrypted"


@pytest.mark.parametrize("by", ["file", "flag"])
@pytest.mark.parametrize(
    ("which", "spoil"),
    [("cert", missing), ("cert", nonsense), ("key", missing), ("key", nonsense), ("key", another), ("key", locked)],
)
def test_a_wrong_file_is_told_by_its_setting(house: House, by: str, which: str, spoil: Callable[[House, Path], str]) -> None:
    """The message names the setting, where it came from and the file; nothing was started, and no log made."""
    expected = spoil(house, getattr(house, which))
    flags: tuple[str, ...] = ("--tls-cert", str(house.cert), "--tls-key", str(house.key))
    if by == "file":
        house.configure()
        flags = ()
    process = house.serve(*flags)
    _, err = process.communicate(timeout=30)
    assert process.returncode == Exit.BROKEN
    source = f"flag --tls-{which}" if by == "flag" else f"file {house.home / 'config.toml'}:"
    assert f"pairing: gateway.tls.{which} ({source}" in err
    assert expected in err
    assert f"pairing config get gateway.tls.{which}" in err
    assert not (house.home / "log.db").exists()


def test_the_end_of_a_certificate_is_what_openssl_says(tmp_path: Path) -> None:
    """X.509 validity, read from the first certificate of a chain; text before it does not matter (RFC 5280 §4.1)."""
    for days in (1, 365, 20_000):  # beyond 2049 the date has another form
        cert, _ = make(tmp_path, days=days, name=f"d{days}")
        shown = subprocess.run(
            ["openssl", "x509", "-enddate", "-noout", "-in", str(cert)], capture_output=True, text=True, check=True
        ).stdout
        assert expires_at(cert) == ssl.cert_time_to_seconds(shown.strip().removeprefix("notAfter=")) * 1000
    chain = tmp_path / "chain.pem"
    chain.write_text("a comment\n" + cert.read_text() + (tmp_path / "d1.crt").read_text())
    assert expires_at(chain) == expires_at(cert)


@pytest.mark.parametrize("cut", range(0, 300, 23))
def test_a_torn_certificate_is_no_certificate(tmp_path: Path, cut: int) -> None:
    """Whatever the bytes are: an end, or a clear error; never another one."""
    der = ssl.PEM_cert_to_DER_cert(make(tmp_path)[0].read_text())
    torn = tmp_path / "torn.pem"
    torn.write_text(ssl.DER_cert_to_PEM_cert(der[:cut]))
    with pytest.raises(CertificateUnreadable):
        expires_at(torn)
