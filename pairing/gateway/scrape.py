"""Who may read `/metrics`: this host itself, or who shows the shared secret. Guesses count as they do at a login.

The figures name no device and no address, but they tell how busy the house is; that is for those who run it.
"""

from typing import Final

from pairing.settings import Secret

from .address import Origin
from .http import TEXT, HttpRequest, HttpResponse
from .limits import SHARED_SECRET, RateLimiter, Source

PATH: Final = "/metrics"
UNAUTHORIZED: Final = HttpResponse(401, TEXT, b"Unauthorized\n", (("WWW-Authenticate", 'Bearer realm="metrics"'),))


def asks_for_metrics(request: HttpRequest) -> bool:
    """Say whether a request is one for the figures."""
    return request.path == PATH and request.method in ("GET", "HEAD")


def may_read(request: HttpRequest, origin: Origin, secret: Secret | None, limiter: RateLimiter, now: int) -> bool:
    """Say whether a request may read them: from loopback with nobody between and no page behind, or with the shared secret.

    A locked-out source is not even compared; a wrong secret counts against it (protocol §4.6). `secret` is None where there is
    none, and then nobody from elsewhere may.
    """
    browser = request.headers.get("Origin")
    if origin.local and browser is None:
        return True
    scheme, _, presented = (request.headers.get("Authorization") or "").partition(" ")
    source = Source(origin.client_ip, browser, origin.local)
    if secret is None or scheme.lower() != "bearer" or not presented.strip() or limiter.locked(SHARED_SECRET, source, now):
        return False
    if secret.matches(presented):
        return True
    limiter.failed(SHARED_SECRET, source, now)
    return False
