"""Ask the gateway of this container whether it is ready: exit 0, or 1 with the reasons. Python's standard library alone."""

import http.client
import os
import ssl
import sys


def ask(connection: http.client.HTTPConnection) -> tuple[int, str]:
    """Return status and body of `/readyz`."""
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read(4096).decode(errors="replace")
    finally:
        connection.close()


def main() -> int:
    """Ask in plain HTTP, then in TLS; whose certificate it is does not matter on one's own loopback."""
    port = int(os.environ.get("PAIRING_GATEWAY_PORT") or 18_789)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    problem = ""
    for connection in (
        http.client.HTTPConnection("127.0.0.1", port, timeout=2),
        http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=context),
    ):
        try:
            status, body = ask(connection)
        except (OSError, http.client.HTTPException) as error:
            problem = problem or f"{type(error).__name__}: {error}"
        else:
            print(body)
            return int(status != 200)
    print(problem, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
