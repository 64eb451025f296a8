"""Where a connection comes from: what the TCP peer proves, what a header may claim, which pages may open one."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers as WebSocketHeaders

from pairing.gateway.address import (
    FORWARDED,
    INVALID,
    IP,
    NOT_ALLOWED,
    Headers,
    Networks,
    Origin,
    believed,
    cidr_allows,
    locate,
    neighbourhood,
    origin_verdict,
    parse_ip,
)
from pairing.gateway.http import Headers as OwnHeaders
from pairing.settings.words import NETWORK


def blocks(texts: Sequence[str]) -> Networks:
    """Read networks as the settings do."""
    return Networks(tuple(NETWORK.read(text) for text in texts))


PROXIES = blocks(["10.0.0.0/8", "2001:db8:aa::/48"])
LOOPBACK_PROXY = blocks(["127.0.0.1", "::1"])
NOBODY = Networks()


def headers(*fields: tuple[str, str]) -> Headers:
    return OwnHeaders(fields)


def at(peer: str, *fields: tuple[str, str], trusted: Networks = NOBODY, real_ip: bool = False) -> Origin:
    return locate(peer, headers(*fields), trusted, real_ip)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::1%lo"])
def test_a_loopback_peer_without_forwarded_headers_is_local(peer: str) -> None:
    """PL-01: local is the TCP peer's own address and nothing else; a local connection is reported without address."""
    origin = at(peer)
    assert origin.local
    assert (origin.reported_ip, believed(origin), origin.direct) == (None, "local", True)


@pytest.mark.parametrize("field", [("X-Forwarded-Port", "443"), ("Via", "x"), ("Host", "evil.example"), ("X-Forwarded-For", " ")])
def test_headers_that_say_nothing_of_a_proxy_do_not_matter(field: tuple[str, str]) -> None:
    """PL-05, PL-09: X-Forwarded-Port, Via, Host and empty headers take no locality away."""
    assert at("127.0.0.1", field).local


@pytest.mark.parametrize("name", [*FORWARDED, "x-FORWARDED-for"])
def test_any_forwarded_header_ends_locality(name: str) -> None:
    """N6, PL-04, PL-06: any sign of a proxy, trusted or not and whatever it says, makes a loopback connection remote."""
    for value in ("203.0.113.9", "127.0.0.1", "for=127.0.0.1", "nonsense"):
        for trusted in (NOBODY, LOOPBACK_PROXY):
            origin = at("127.0.0.1", (name, value), trusted=trusted)
            assert not origin.local
            assert believed(origin) == "proxied"


def test_a_remote_peer_is_reported_by_its_own_address() -> None:
    """PL-07: without a proxy the address is the TCP peer's."""
    origin = at("192.0.2.2")
    assert (origin.client_ip, origin.reported_ip, origin.direct, believed(origin)) == ("192.0.2.2", "192.0.2.2", True, "direct")
    assert at("::ffff:192.0.2.2").reported_ip == "192.0.2.2"
    assert at("fe80::1%eth0").reported_ip == "fe80::1"


def test_what_an_untrusted_peer_forwards_is_not_reported() -> None:
    """Claims of somebody unknown hide the address from the reviewer, and the peer itself is counted."""
    origin = at("192.0.2.2", ("X-Forwarded-For", "203.0.113.9"))
    assert (origin.client_ip, origin.reported_ip, origin.forwarded) == ("192.0.2.2", None, True)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        (["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, 10.9.9.9, 127.0.0.1"], "203.0.113.9"),
        (["203.0.113.9, , 10.0.0.2,"], "203.0.113.9"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8::9]:4711"], "2001:db8::9"),
        (["[2001:db8::9]"], "2001:db8::9"),
        (["2001:db8::9"], "2001:db8::9"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["fe80::9%eth0"], "fe80::9"),
        (["203.0.113.9, unknown"], None),
        (["203.0.113.9, _hidden, 10.0.0.2"], None),
        (['203.0.113.9, "203.0.113.8"'], None),
        (["203.0.113.9, 203.0.113.999"], None),
        (["203.0.113.9, 010.0.0.2"], None),
        (["203.0.113.9, [203.0.113.8"], None),
        (["203.0.113.9, 203.0.113.8:port"], None),
        (["10.0.0.2, ::1"], None),
        ([], None),
    ],
)
def test_the_client_is_the_first_hop_from_the_right_that_is_no_proxy(forwarded: list[str], client: str | None) -> None:
    """N8: right to left, skipping trusted and loopback hops only; a hop nobody can read ends the search."""
    origin = at("10.0.0.1", *(("X-Forwarded-For", line) for line in forwarded), trusted=PROXIES)
    assert (origin.client_ip, origin.reported_ip) == (client, client)
    assert (origin.trusted_proxy, origin.direct, believed(origin)) == (True, False, "proxied")


def test_x_real_ip_counts_only_where_it_is_allowed_and_nothing_better_is_there() -> None:
    """X-Real-IP is a fallback (protocol §4.2); several of them, or one that cannot be read, name nobody."""
    real = ("X-Real-IP", "203.0.113.9")
    assert at("10.0.0.1", real, trusted=PROXIES).client_ip is None
    assert at("10.0.0.1", real, trusted=PROXIES, real_ip=True).client_ip == "203.0.113.9"
    assert at("10.0.0.1", real, ("X-Forwarded-For", "198.51.100.1"), trusted=PROXIES, real_ip=True).client_ip == "198.51.100.1"
    assert at("10.0.0.1", real, ("X-Forwarded-For", "junk"), trusted=PROXIES, real_ip=True).client_ip is None
    assert at("10.0.0.1", real, real, trusted=PROXIES, real_ip=True).client_ip is None
    assert at("10.0.0.1", ("X-Real-IP", "junk"), trusted=PROXIES, real_ip=True).client_ip is None
    assert at("10.0.0.1", ("X-Real-IP", "127.0.0.1"), trusted=PROXIES, real_ip=True).client_ip is None
    assert at("192.0.2.2", real, trusted=PROXIES, real_ip=True).client_ip == "192.0.2.2"


def test_a_proxy_that_names_nobody_is_not_taken_for_its_client() -> None:
    """A trusted peer without forwarded headers is neither reported nor good for an automatic approval."""
    origin = at("10.0.0.1", trusted=PROXIES)
    assert (origin.client_ip, origin.reported_ip, origin.local, origin.direct) == (None, None, False, False)
    assert not cidr_allows(origin, blocks(["0.0.0.0/0", "::/0"]))


def test_a_local_peer_stays_local_where_loopback_is_a_trusted_proxy() -> None:
    """Naming loopback as a proxy takes nothing from connections that it forwards nothing for."""
    origin = at("127.0.0.1", trusted=LOOPBACK_PROXY)
    assert (origin.local, origin.client_ip, origin.via_loopback_proxy) == (True, "127.0.0.1", False)


@pytest.mark.parametrize("peer", ["", "unix", "127.0.0.1:80", "localhost", "1.2.3", "127.1", "\x00"])
def test_a_peer_without_an_ip_address_is_neither_local_nor_known(peer: str) -> None:
    """What cannot be read is not believed to be anything."""
    origin = at(peer)
    assert (origin.local, origin.direct, origin.client_ip, origin.reported_ip) == (False, False, None, None)


FORWARDER = ("X-Forwarded-For", "203.0.113.9")


@pytest.mark.parametrize(
    ("origin", "cidr", "allowed"),
    [
        pytest.param(at("192.0.2.2"), "192.0.2.0/24", True, id="CI-01"),
        pytest.param(at("192.0.2.2"), "192.0.2.2", True, id="single address"),
        pytest.param(at("192.0.2.2"), "198.51.100.0/24", False, id="outside"),
        pytest.param(at("::ffff:192.0.2.2"), "192.0.2.0/24", True, id="mapped peer"),
        pytest.param(at("192.0.2.2"), "::ffff:192.0.2.0/120", True, id="mapped block"),
        pytest.param(at("127.0.0.1", FORWARDER, trusted=LOOPBACK_PROXY), "203.0.113.0/24", False, id="CI-05"),
        pytest.param(at("10.0.0.1", FORWARDER, trusted=PROXIES), "203.0.113.0/24", True, id="CI-06"),
        pytest.param(at("10.0.0.1", ("X-Forwarded-For", "198.51.100.9"), trusted=PROXIES), "203.0.113.0/24", False, id="CI-07"),
        pytest.param(at("192.0.2.2", FORWARDER), "203.0.113.0/24", False, id="claimed by anybody"),
        pytest.param(at("192.0.2.2", FORWARDER), "192.0.2.0/24", False, id="claims make the peer unknown"),
        pytest.param(at("127.0.0.1"), "127.0.0.0/8", False, id="local is not an address"),
        pytest.param(at("10.0.0.1", trusted=PROXIES), "10.0.0.0/8", False, id="the proxy itself"),
    ],
)
def test_an_address_allows_silent_approval_only_where_it_is_sure(origin: Origin, cidr: str, allowed: bool) -> None:
    """CI-01 to CI-07: the TCP peer itself, or what a trusted proxy off this host reports."""
    assert cidr_allows(origin, blocks([cidr])) is allowed
    assert not cidr_allows(origin, NOBODY)


def parse(text: str) -> IP:
    found = parse_ip(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("127.3.2.1", "loopback"),
        ("::1", "loopback"),
        (None, "unknown"),
        ("junk", "unknown"),
    ],
)
def test_addresses_are_counted_by_neighbourhood(ip: str | None, name: str) -> None:
    """One host has a whole IPv6 /64, so that it is counted once."""
    assert neighbourhood(ip) == name


ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["127.0.0.1", "::1", "10.0.0.1", "192.0.2.2", "::ffff:10.0.0.2", "fe80::1%eth0", "junk", ""]),
)
VALUES = st.one_of(
    st.lists(ADDRESSES, max_size=4).map(", ".join),
    st.text(max_size=20),
    st.text("[]:.,0123456789abcdef%\"' ", max_size=20),
)
FIELDS = st.lists(st.tuples(st.sampled_from([*FORWARDED, "Via", "Host", "x-real-ip"]), VALUES), max_size=5)


@given(ADDRESSES, FIELDS, st.sampled_from([NOBODY, PROXIES, LOOPBACK_PROXY]), st.booleans())
def test_a_header_only_ever_takes_away(peer: str, fields: list[tuple[str, str]], trusted: Networks, real_ip: bool) -> None:
    """N6, N8: no header, whoever sends it, makes a connection local, makes it direct, or reports an address unvouched."""
    bare, claimed = at(peer, trusted=trusted, real_ip=real_ip), at(peer, *fields, trusted=trusted, real_ip=real_ip)
    assert claimed.local <= bare.local
    assert claimed.direct <= bare.direct
    assert claimed.local <= (not claimed.forwarded)
    if claimed.reported_ip is not None and not claimed.trusted_proxy:
        assert claimed.reported_ip == bare.reported_ip
    if claimed.reported_ip is not None:
        reported = parse_ip(claimed.reported_ip)
        assert reported is not None
        assert not reported.is_loopback
    everywhere = blocks(["0.0.0.0/0", "::/0"])
    assert cidr_allows(claimed, everywhere) <= (claimed.direct or claimed.trusted_proxy)
    assert not (cidr_allows(claimed, everywhere) and claimed.via_loopback_proxy)


@given(st.lists(ADDRESSES, max_size=4), st.ip_addresses(v=4).map(str))
def test_what_stands_left_of_the_client_is_never_looked_at(left: list[str], client: str) -> None:
    """N8: a client cannot change what is believed of it by what it wrote into the header itself."""
    honest = at("10.0.0.1", ("X-Forwarded-For", client), trusted=PROXIES)
    forged = at("10.0.0.1", ("X-Forwarded-For", ", ".join([*left, client])), trusted=PROXIES)
    if honest.client_ip is not None:
        assert forged == honest


def test_headers_of_the_websocket_library_will_do() -> None:
    """Any mapping with several values for a name, ignoring case, serves."""
    fields = WebSocketHeaders()
    fields["x-forwarded-for"] = "198.51.100.1"
    fields["X-Forwarded-For"] = "203.0.113.9"
    assert locate("10.0.0.1", fields, PROXIES, False).client_ip == "203.0.113.9"


def verdict(
    page: str | None,
    *,
    host: str | None = "gateway.example:18789",
    local: bool = False,
    allowed: Sequence[str] = (),
    fallback: bool = False,
    required: bool = True,
) -> str | None:
    return origin_verdict(page, host, local, allowed, fallback, required)


def test_a_loopback_page_is_welcome_on_its_own_host_only() -> None:
    """OR-01: any loopback origin is allowed for a local client, and for no other."""
    for page in ("http://localhost:5173", "http://127.0.0.1", "https://[::1]:8443", "HTTP://LOCALHOST"):
        assert verdict(page, local=True) is None
        assert verdict(page, local=False) == NOT_ALLOWED
    for page in ("http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://evil-localhost", "http://[::2]"):
        assert verdict(page, local=True) == NOT_ALLOWED


def test_a_foreign_page_is_refused() -> None:
    """OR-03: an origin that nobody listed is not allowed, local or not."""
    assert verdict("https://evil.example", local=True) == NOT_ALLOWED


@pytest.mark.parametrize("entry", ["https://ui.example", "https://UI.example", " https://ui.example:443 ", "*"])
def test_a_listed_page_is_allowed_in_any_case(entry: str) -> None:
    """OR-05: origins compare without case, and without the port that goes without saying."""
    assert verdict("https://UI.example", allowed=[entry]) is None
    assert verdict("https://ui.example:443", allowed=[entry]) is None
    assert verdict("http://ui.example", allowed=["https://ui.example"]) == NOT_ALLOWED
    assert verdict("https://ui.example:8443", allowed=["https://ui.example"]) == NOT_ALLOWED


def test_the_host_header_allows_only_where_that_danger_was_chosen() -> None:
    """OR-06: origin and Host may vouch for each other only under the setting that says how dangerous it is."""
    assert verdict("https://gateway.example:18789", fallback=True) is None
    assert verdict("https://gateway.example:18789") == NOT_ALLOWED
    assert verdict("https://gateway.example", fallback=True) == NOT_ALLOWED
    assert verdict("https://gateway.example", host="Gateway.Example:443", fallback=True) is None
    assert verdict("https://gateway.example", host=None, fallback=True) == NOT_ALLOWED


def test_a_missing_origin_matters_only_for_clients_that_have_a_page() -> None:
    """Clients that are no page send no Origin; a page that sends none, or nonsense, is refused whatever is listed."""
    assert verdict(None, required=False) is None
    assert verdict(None, required=True, allowed=["*"]) == INVALID


@pytest.mark.parametrize(
    "page",
    ["", "null", "localhost", "http://", "http://a b", "http://localhost/path", "http://u@localhost", "http://localhost:port",
     "http://a, http://b", "http://\u212aelvin.example", "http://[::1", "http://localhost?x", "http://localhost\n.evil", "*"],
)  # fmt: skip
def test_an_origin_that_is_none_is_refused_for_everybody(page: str) -> None:
    """An Origin header that cannot be read is never allowed, for any client and under any list."""
    for required in (True, False):
        assert verdict(page, local=True, allowed=["*", page], fallback=True, required=required) == INVALID


@given(st.text(), st.none() | st.text(), st.lists(st.text()), st.booleans(), st.booleans())
def test_no_origin_header_raises(page: str, host: str | None, allowed: list[str], local: bool, fallback: bool) -> None:
    """The verdict is total, and always one of three."""
    assert verdict(page, host=host, allowed=allowed, local=local, fallback=fallback) in (None, NOT_ALLOWED, INVALID)
