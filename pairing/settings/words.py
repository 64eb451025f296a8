"""The texts with a grammar of their own: addresses, networks, URLs, origins, scopes, paths.

Parsing only; nothing is looked up, opened or resolved.
"""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pairing.authority import OPERATOR, OPERATOR_SCOPES, ROLES
from pairing.commands import EVERYTHING, Quorum
from pairing.hooks import url_flaw

from .kinds import ExplainedError, Span, Word
from .problems import did_you_mean

Network = IPv4Network | IPv6Network

_URL_SCHEMES = ("ws", "wss", "http", "https")


def _bind(text: str) -> str:
    return text if text in ("loopback", "lan") else str(ip_address(text))


def _network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError:
        raise ExplainedError(f"the network of that address is {ip_network(text, strict=False)}") from None
    return _unmapped(network)


def _unmapped(network: Network) -> Network:
    # Peers are compared after IPv4-mapped IPv6 is reduced to IPv4 (protocol §4.2): a mapped rule would match nobody.
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


def _url(text: str) -> str:
    parts = _authority(text)
    if parts.scheme not in _URL_SCHEMES or not _may_be_quoted(text):
        raise ValueError
    return text


def _receiver(text: str) -> str:
    if url_flaw(_clean(text), plain_allowed=True) is not None or not _may_be_quoted(text):
        raise ValueError
    return text


def _origin(text: str) -> str:
    if text == "*":
        return text
    lowered = text.lower()
    parts = _authority(lowered)
    if lowered != f"{parts.scheme}://{parts.netloc}" or not _may_be_quoted(text):
        raise ValueError
    return lowered


def _authority(text: str) -> SplitResult:
    parts = urlsplit(_clean(text))
    port = parts.port
    if " " in text or not parts.scheme or not parts.hostname or (port is None and parts.netloc.endswith(":")):
        raise ValueError
    return parts


def _may_be_quoted(text: str) -> bool:
    # These marks introduce the parts of a URL in which people put passwords and tokens.
    return not set("@?#") & set(text)


def _scope(text: str) -> str:
    if text not in OPERATOR_SCOPES:
        near = did_you_mean(text, OPERATOR_SCOPES).removeprefix("; ")
        raise ExplainedError(near or f"known: {', '.join(OPERATOR_SCOPES)}")
    return text


def _granted(text: str) -> str:
    role, _, rest = text.partition(".")
    if text == EVERYTHING or text in ROLES or (role in ROLES and role != OPERATOR and rest):
        return text
    return _scope(text)


def _quorum(text: str) -> Quorum:
    what, _, number = (part.strip() for part in text.partition("="))
    if not number.isascii() or not number.isdigit() or not 2 <= int(number) <= 16:
        raise ExplainedError("from 2 to 16 approvers")
    return Quorum(_granted(what), int(number))


def _span(text: str) -> Span:
    found = Span.read(text)
    if found is None:
        raise ValueError
    return found


def _path(text: str) -> Path:
    try:
        return Path(_clean(text)).expanduser()
    except RuntimeError as error:
        raise ExplainedError(str(error)) from None


def _clean(text: str) -> str:
    if not text or not text.isprintable() or text != text.strip():
        raise ValueError
    return text


BIND = Word('"loopback", "lan" or an IP address', _bind)
NETWORK = Word("an IP address or CIDR", _network)
URL = Word("a ws:// or wss:// URL without credentials, query or fragment", _url, _may_be_quoted)
RECEIVER = Word("an https:// URL without credentials, query or fragment", _receiver, _may_be_quoted)
ORIGIN = Word('an origin like "https://host:port", or "*"', _origin, _may_be_quoted)
SCOPE = Word("an operator scope", _scope)
GRANTED = Word('a scope, a role or "*"', _granted)
SPAN = Word("a span of time from 1m to 3650d, like 90d or 12h", _span)
QUORUM = Word('a rule like "operator.admin=2"', _quorum)
PATH = Word("the path of a file", _path)
