"""Connecting: what a client may say of itself, which protocol is spoken, what hello-ok holds, whose hint is whose."""

import json
from contextlib import suppress
from io import StringIO
from typing import Any

import msgspec
import pytest
from hypothesis import given as over
from hypothesis import strategies as st
from msgspec import Raw
from rich.console import Console

from pairing.entries import Presence
from pairing.gateway import clients
from pairing.gateway.connect import (
    Auth,
    ConnectParams,
    Features,
    HelloAuth,
    HelloOk,
    IssuedToken,
    Policy,
    ProtocolMismatch,
    ServerInfo,
    SessionDefaults,
    Snapshot,
    decode_connect,
    given,
    mismatch,
    negotiate,
)
from pairing.gateway.frames import StateVersion
from pairing.shapes import BadParams

CLIENT = {"id": "cli", "version": "1", "platform": "linux", "mode": "cli"}
DEVICE = {"id": "d", "publicKey": "k", "signature": "s", "signedAt": 0, "nonce": "n"}


def connect(**changes: Any) -> ConnectParams:
    sent = {"minProtocol": 3, "maxProtocol": 3, "client": CLIENT} | changes
    return decode_connect(Raw(json.dumps(sent).encode()))


def refusal(**changes: Any) -> str:
    with pytest.raises(BadParams) as caught:
        connect(**changes)
    return str(caught.value).removeprefix("invalid connect params: ")


def test_the_least_that_a_client_may_say() -> None:
    """FR-23: role defaults to operator, everything that is not required may be absent."""
    params = connect()
    assert (params.role, params.scopes, params.auth, given(params.device)) == ("operator", (), Auth(), None)
    assert given(params.client.device_family) is None


def test_the_most_that_a_client_may_say() -> None:
    """Every key of protocol §2.2 is read, those of newer clients included, under protocol 3 as well."""
    params = connect(
        client=CLIENT
        | {"displayName": "a", "deviceFamily": "b", "modelIdentifier": "c", "instanceId": "d", "buildId": "", "timeZone": "UTC"},
        caps=["system"],
        commands=["run"],
        permissions={"camera": False},
        pathEnv="",
        role="node",
        scopes=["b", "a", "b"],
        device=DEVICE,
        auth={"token": "", "bootstrapToken": "b", "deviceToken": "d", "password": "p"},
        locale="",
        userAgent="",
        computerUse={"x": [1]},
        workerRuns=None,
        modelCatalog="m",
    )
    assert params.scopes == ("b", "a", "b")
    device = given(params.device)
    assert device is not None
    assert (device.public_key, device.signed_at) == ("k", 0)


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"client": CLIENT | {"id": "my-client"}}, "at /client/id: must be equal to one of the allowed values"),
        ({"client": CLIENT | {"id": "ios-node"}}, "at /client/id: must be equal to one of the allowed values"),
        ({"client": CLIENT | {"mode": "operator"}}, "at /client/mode: must be equal to one of the allowed values"),
        ({"foo": 1}, "at root: unexpected property 'foo'"),
        ({"client": CLIENT | {"version": ""}}, "at /client/version: must NOT have fewer than 1 characters"),
        ({"client": CLIENT | {"displayName": None}}, "at /client/displayName: must be string"),
        ({"client": CLIENT | {"buildId": "x" * 97}}, "at /client/buildId: must NOT have more than 96 characters"),
        ({"client": "cli"}, "at /client: must be object"),
        ({"minProtocol": 0}, "at /minProtocol: must be >= 1"),
        ({"minProtocol": "3"}, "at /minProtocol: must be integer"),
        ({"role": ""}, "at /role: must NOT have fewer than 1 characters"),
        ({"scopes": ["a", ""]}, "at /scopes/1: must NOT have fewer than 1 characters"),
        ({"auth": {"x": "y"}}, "at /auth: unexpected property 'x'"),
        ({"auth": {"token": 1}}, "at /auth/token: must be string"),
        ({"device": {}}, "at /device: must have required property 'id'; at /device: must have required property 'publicKey'; "
         "at /device: must have required property 'signature'; at /device: must have required property 'signedAt'; "
         "at /device: must have required property 'nonce'"),
        ({"device": DEVICE | {"nonce": ""}}, "at /device/nonce: must NOT have fewer than 1 characters"),
        ({"device": DEVICE | {"signedAt": -1}}, "at /device/signedAt: must be >= 0"),
        ({"device": DEVICE | {"signedAt": 2**53}}, "at /device/signedAt: must be <= 9007199254740991"),
        ({"permissions": {"": True}}, "at /permissions/: must NOT have fewer than 1 characters"),
    ],
)  # fmt: skip
def test_what_violates_the_schema_is_named(changes: dict[str, Any], problems: str) -> None:
    """FR-11, FR-12, FR-13, FR-15: connect params are a closed object on every level."""
    assert refusal(**changes) == problems


def test_all_violations_are_listed() -> None:
    """A client that gets several things wrong hears of all of them at once (protocol §1.4)."""
    with pytest.raises(BadParams) as caught:
        decode_connect(Raw(b'{"client":{},"foo":1}'))
    assert caught.value.problems.split("; ") == [
        "must have required property 'minProtocol'",
        "must have required property 'maxProtocol'",
        "at root: unexpected property 'foo'",
        "at /client: must have required property 'id'",
        "at /client: must have required property 'version'",
        "at /client: must have required property 'platform'",
        "at /client: must have required property 'mode'",
    ]


def test_newer_clients_may_send_keys_that_we_do_not_know() -> None:
    """From protocol 4 on unknown keys are ignored on every level; what we do know must still fit."""
    extra = {
        "client": CLIENT | {"new": 1},
        "auth": {"token": "t", "new": 1},
        "device": DEVICE | {"new": 1},
        "new": {"a": 1},
        "computerUse": {"kept": True},
    }
    params = connect(maxProtocol=4, **extra)
    assert params == connect(
        maxProtocol=4, client=CLIENT, auth={"token": "t"}, device=DEVICE, computerUse={"kept": True}
    )  # fmt: skip
    assert refusal(maxProtocol=4, client=CLIENT | {"new": 1, "id": "x"}) == (
        "at /client/id: must be equal to one of the allowed values"
    )
    assert "unexpected property 'new'" in refusal(maxProtocol=3, **extra)
    assert "unexpected property 'new'" in refusal(maxProtocol="4", **extra)


def test_what_is_nested_as_deep_as_can_be_read_is_let_through_or_refused() -> None:
    """N13: no depth of what a newer client adds raises anything but BadParams."""
    for depth in range(1, 1200, 7):
        deep = "[" * depth + "]" * depth
        raw = f'{{"minProtocol":4,"maxProtocol":4,"client":{json.dumps(CLIENT)},"new":1,"computerUse":{deep}}}'
        with suppress(BadParams):
            assert isinstance(decode_connect(Raw(raw.encode())).computer_use, list)


def test_secrets_are_never_shown() -> None:
    """L7: whatever prints a connect or a hello, for a log or for a terminal, shows which secrets there were and none of them."""
    secret = "s3cret-value"
    fields = ("token", "bootstrapToken", "deviceToken", "password", "approvalRuntimeToken", "agentRuntimeIdentityToken")
    params = connect(auth=dict.fromkeys(fields, secret))
    hello = HelloAuth(role="node", scopes=(), device_token=secret, device_tokens=(IssuedToken(secret, "operator", (), 1),))
    for value in (params, hello, IssuedToken(secret, "operator", (), 1)):
        drawn = StringIO()
        Console(file=drawn, width=200).print(value)
        for shown in (repr(value), str(value), f"{value}", drawn.getvalue()):
            assert secret not in shown
            assert "token=" in shown or value is not params


@pytest.mark.parametrize(
    ("auth", "signed", "token"),
    [
        ({}, "", None),
        ({"token": " T "}, " T ", "T"),
        ({"token": "", "deviceToken": "D"}, "", None),
        ({"token": "  "}, "  ", None),
        ({"deviceToken": "D", "bootstrapToken": "B"}, "D", None),
        ({"bootstrapToken": "B", "password": "P"}, "B", None),
        ({"password": "P"}, "", None),
    ],
)
def test_the_signed_token_is_the_first_as_sent_and_the_compared_one_trimmed(
    auth: dict[str, str], signed: str, token: str | None
) -> None:
    """An empty token that was sent counts for the signature (protocol §3.2), never as a credential (§4.1, T3)."""
    found = connect(auth=auth).auth
    assert (found.signed, found.presented("token")) == (signed, token)


def test_params_written_by_us_are_read_by_us() -> None:
    """A client built on the same shapes sends no key that is absent, and nothing null."""
    params = connect(device=DEVICE, auth={"deviceToken": "d"}, scopes=["operator.read"])
    text = msgspec.json.encode(params)
    assert decode_connect(Raw(text)) == params
    assert b"null" not in text


@over(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.dictionaries(st.text(), each)))
def test_no_params_raise_anything_but_what_is_declared(sent: Any) -> None:
    """Whatever the params of a connect, they fit or they are BadParams."""
    newer = {"minProtocol": 4, "maxProtocol": 4, "client": CLIENT}
    for whole in (sent, sent | newer if isinstance(sent, dict) else newer):
        with suppress(BadParams):
            assert decode_connect(Raw(msgspec.json.encode(whole))).max_protocol == 4


@pytest.mark.parametrize(
    ("minimum", "maximum", "spoken"),
    [(3, 3, 3), (4, 4, 4), (3, 4, 4), (1, 9, 4), (1, 3, 3), (4, 10**9, 4), (1, 2, None), (5, 9, None), (4, 3, None)],
)
def test_the_highest_common_protocol_is_spoken(minimum: int, maximum: int, spoken: int | None) -> None:
    """FR-19: every range that contains 3 or 4 is accepted."""
    assert negotiate(minimum, maximum) == spoken


def test_a_mismatch_names_the_nearest_protocol() -> None:
    """FR-17: older clients get the form of a version-3 gateway, newer ones all keys of the newer form."""
    assert msgspec.to_builtins(mismatch(1, 2)) == {"expectedProtocol": 3}
    assert msgspec.to_builtins(mismatch(5, 9)) == {
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": 5,
        "clientMaxProtocol": 9,
        "expectedProtocol": 4,
        "minimumProbeProtocol": 3,
    }
    assert mismatch(4, 3) == ProtocolMismatch(3)


def test_hello_has_the_keys_of_the_protocol_and_leaves_out_what_is_absent() -> None:
    """HE-01, HE-07: a hello without device has exactly role and scopes in `auth`, and no null anywhere."""
    snapshot = Snapshot(
        presence=(Presence(ts=1, mode="cli"),),
        health={},
        state_version=StateVersion(),
        uptime_ms=2,
        session_defaults=SessionDefaults(),
    )
    hello = HelloOk(
        4,
        ServerInfo("0", "c"),
        Features(("health",), ("tick",)),
        snapshot,
        HelloAuth(role="operator", scopes=()),
        Policy(1024, 2048),
    )
    assert msgspec.to_builtins(hello) == {
        "type": "hello-ok",
        "protocol": 4,
        "server": {"version": "0", "connId": "c"},
        "features": {"methods": ("health",), "events": ("tick",)},
        "snapshot": {
            "presence": ({"ts": 1, "mode": "cli"},),
            "health": {},
            "stateVersion": {"presence": 0, "health": 0},
            "uptimeMs": 2,
            "sessionDefaults": {
                "defaultAgentId": "main",
                "mainKey": "main",
                "mainSessionKey": "agent:main:main",
                "scope": "per-sender",
            },
        },
        "auth": {"role": "operator", "scopes": ()},
        "policy": {"maxPayload": 1024, "maxBufferedBytes": 2048, "tickIntervalMs": 30_000},
    }


@pytest.mark.parametrize(
    ("id", "mode", "classes"),
    [
        ("cli", "cli", {"cli"}),
        ("cli", "probe", {"probe"}),
        ("openclaw-probe", "test", {"probe"}),
        ("openclaw-control-ui", "webchat", {"control_ui", "browser_ui", "webchat"}),
        ("openclaw-tui", "ui", {"control_ui"}),
        ("webchat-ui", "ui", {"webchat"}),
        ("test", "webchat", {"webchat"}),
        ("openclaw-ios", "ui", {"native_ui"}),
        ("openclaw-macos", "node", set()),
        ("openclaw-linux", "ui", set()),
        ("gateway-client", "backend", {"backend_self"}),
        ("gateway-client", "cli", set()),
        ("test", "backend", set()),
        ("node-host", "node", set()),
    ],
)
def test_the_class_of_a_client_follows_from_its_id_and_mode(id: str, mode: str, classes: set[str]) -> None:
    """Client classes are those of protocol §2.2."""
    found = {
        "cli": clients.is_cli(id, mode),
        "probe": clients.is_probe(id, mode),
        "control_ui": clients.is_control_ui(id),
        "browser_ui": clients.is_browser_ui(id),
        "webchat": clients.is_webchat(id, mode),
        "native_ui": clients.is_native_ui(id, mode),
        "backend_self": clients.is_backend_self(id, mode),
    }
    assert {name for name, holds in found.items() if holds} == classes


@pytest.mark.parametrize(
    ("id", "mode", "token", "password"),
    [
        (
            "cli",
            "cli",
            "set gateway.remote.token to match gateway.auth.token",
            "set gateway.remote.password to match gateway.auth.password",
        ),
        (
            "openclaw-control-ui",
            "webchat",
            "open the dashboard URL and paste the token in Control UI settings",
            "enter the password in Control UI settings",
        ),
        (
            "webchat-ui",
            "ui",
            "open the dashboard URL and paste the token in Control UI settings",
            "enter the password in Control UI settings",
        ),
        ("test", "test", "provide gateway auth token", "provide gateway auth password"),
    ],
)
def test_a_hint_fits_the_client(id: str, mode: str, token: str, password: str) -> None:
    """The hints of a refused secret are those of protocol §4.3."""
    assert clients.hints(id, mode) == clients.Hints(token, password)
