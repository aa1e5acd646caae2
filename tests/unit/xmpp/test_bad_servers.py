"""Test sessions with misbehaving servers, which send scripted answers."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from project.sample.certificates import Certificates
from pubsubcache.exceptions import AuthenticationFailed, ServiceUnreachable, UntrustedServer
from pubsubcache.xmpp.session import Login, open_session
from tests.sessions import HEADER, NASTY, assert_clean, assert_quiet, mechanisms, refusal, scripted_server, watched

DOMAIN = "bad.test"


@dataclass(frozen=True)
class Secure:
    """The certificates that a server of `DOMAIN` needs for TLS and its clients need to trust it."""

    bundle: Path
    ca_file: Path

    def login(self, port: int, jid: str = f"alice@{DOMAIN}") -> Login:
        return Login(jid, "secret", host="127.0.0.1", port=port, ca_file=str(self.ca_file))


@pytest.fixture(autouse=True)
def impatient(settings: Any) -> None:
    settings.PUBSUBCACHE_RECONNECT_DELAY = 0.05
    settings.PUBSUBCACHE_RECONNECT_MAX_DELAY = 0.2


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert_quiet(caplog)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Secure:
    folder = tmp_path_factory.mktemp("certificates")
    certificates = Certificates.in_folder(folder, [DOMAIN])
    bundle = folder / "both.pem"
    bundle.write_bytes(certificates.bundle)
    return Secure(bundle, certificates.ca_file)


async def test_unknown_domain_is_reported_as_unreachable() -> None:
    with pytest.raises(ServiceUnreachable, match=r"nonexistent\.invalid cannot be reached"):
        async with open_session(Login("alice@nonexistent.invalid", "x")):
            pass


async def test_no_credentials_are_sent_without_tls() -> None:
    async with scripted_server(HEADER + mechanisms("PLAIN", "SCRAM-SHA-1")) as (port, received):
        error = await refusal(Login("alice@bad.test", "secret", host="127.0.0.1", port=port))
    assert isinstance(error, UntrustedServer)
    assert "offers no TLS" in str(error)
    assert b"<auth" not in received


@pytest.mark.parametrize(
    ("prolog", "words"),
    [
        (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]>" + HEADER[21:], "document type definition"),
        (b"<!-- -->" + HEADER, "comment"),
        (HEADER.decode().encode("utf-16"), "does not speak XMPP"),
        (HEADER[21:].decode().encode("utf-16-be"), "does not speak XMPP"),
        (HEADER + b"<a></b>", "not well-formed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak XMPP"),
        (HEADER + b"<stream:features>" + b"<x/>" * 30_000, "longer than 100000 bytes"),
        (b"<?" + b"x" * 5000, "does not speak XMPP"),
        (
            HEADER
            + b"<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>evil.test:1</see-other-host>"
            + b"</stream:error></stream:stream>",
            "see-other-host",
        ),
    ],
)
async def test_invalid_stream_is_refused(prolog: bytes, words: str, settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_STANZA_SIZE = 100_000
    async with scripted_server(prolog) as (port, _):
        error = await refusal(Login("alice@bad.test", "secret", host="127.0.0.1", port=port))
    assert words in str(error)


async def test_silent_server_fails_after_the_connect_timeout(settings: Any) -> None:
    settings.PUBSUBCACHE_CONNECT_TIMEOUT = 0.3
    async with scripted_server() as (port, _):
        error = await refusal(Login("alice@bad.test", "secret", host="127.0.0.1", port=port))
    assert "took over 0.3 seconds" in str(error)


async def test_the_certificate_must_be_that_of_the_domain(secure: Secure) -> None:
    async with scripted_server(bundle=secure.bundle) as (port, _):
        error = await refusal(secure.login(port, jid="alice@elsewhere.test"))
    assert isinstance(error, UntrustedServer)
    assert "not valid for 'elsewhere.test'" in str(error)


async def test_password_is_never_sent_in_plain_text(secure: Secure, settings: Any) -> None:
    async with scripted_server(HEADER + mechanisms("PLAIN"), bundle=secure.bundle) as (port, received):
        error = await refusal(secure.login(port))
        assert isinstance(error, AuthenticationFailed)
        assert "no safe way to log in: PLAIN" in str(error)
        assert b"<auth" not in received

        settings.PUBSUBCACHE_ALLOW_PLAINTEXT_AUTH = True
        settings.PUBSUBCACHE_CONNECT_TIMEOUT = 0.5
        await refusal(secure.login(port))
        assert b"PLAIN" in received


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (b"i=2000000000", "too many iterations"),
        (b"i=4095", "too few iterations (4095, at least 4096 are safe)"),
        (b"i=0", "too few iterations"),
        (b"i=-1", "no usable iteration count"),
        (b"i=+2000000000", "no usable iteration count"),
        (b"i=4096,i=1", "no usable iteration count"),
    ],
)
async def test_login_challenge_with_a_dangerous_iteration_count_is_refused(
    secure: Secure, count: bytes, words: str
) -> None:
    challenge = base64.b64encode(b"r=x,s=QSXCR+Q6sek8bf92," + count).decode()
    answers = (
        HEADER + mechanisms("SCRAM-SHA-1"),
        f"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{challenge}</challenge>".encode(),
    )
    async with scripted_server(*answers, bundle=secure.bundle) as (port, received):
        error = await refusal(secure.login(port))
    assert words in str(error)
    assert b"<response" not in received


async def test_temporary_login_failure_is_not_a_wrong_password(secure: Secure) -> None:
    failure = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><temporary-auth-failure/></failure>"
    async with scripted_server(HEADER + mechanisms("SCRAM-SHA-1"), failure, bundle=secure.bundle) as (port, _):
        error = await refusal(secure.login(port))
    assert type(error) is ServiceUnreachable
    assert "temporary-auth-failure" in str(error)


async def test_a_stream_error_is_one_bounded_line(caplog: pytest.LogCaptureFixture) -> None:
    namespace = "urn:ietf:params:xml:ns:xmpp-streams"
    inner = f"<policy-violation xmlns='{namespace}'/><text xmlns='{namespace}'>{NASTY}</text>"
    error = f"<stream:error>{inner}</stream:error></stream:stream>".encode()
    async with scripted_server(HEADER + error) as (port, _):
        login = Login("alice@bad.test", "secret", host="127.0.0.1", port=port)
        assert_clean(str(await refusal(login)))
        async with watched(login) as run:
            await run.until(lambda: any("policy-violation" in status.detail for status in run.statuses))
        assert_clean(next(status.detail for status in run.statuses if status.detail))
    for record in caplog.records:
        if record.name.startswith("pubsubcache"):
            assert len(record.getMessage()) <= 2000
            assert record.getMessage().isprintable()
