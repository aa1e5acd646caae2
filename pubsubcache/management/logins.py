"""Reads and checks login data before they are stored."""

import asyncio
import getpass
import os
import ssl
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

from django.core.exceptions import ValidationError

from pubsubcache.exceptions import InvalidRequest, ServiceUnreachable
from pubsubcache.management.network import AccountService, run
from pubsubcache.models import Account
from pubsubcache.types import Directory


def password(account_jid: str, variable: str | None) -> str:
    """Return the password from an environment variable, a prompt, or the first line of a pipe.

    Args:
        account_jid: The account, for the prompt.
        variable: The name of the environment variable; None to prompt or read from the pipe.

    Raises:
        InvalidRequest: The password is missing or empty.
    """
    if variable is not None:
        if variable not in os.environ:
            raise InvalidRequest(f"There is no environment variable {variable}.")
        entered, source = os.environ[variable], f"The environment variable {variable}"
    elif sys.stdin.isatty():
        entered, source = getpass.getpass(f"Password of {account_jid}: "), "The password"
    else:
        entered, source = sys.stdin.readline().rstrip("\r\n"), "The password"
    if not entered:
        raise InvalidRequest(f"{source} is empty.")
    try:
        entered.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{source} is not valid UTF-8.") from None
    return entered


def ca_file(path: str) -> str:
    """Return the absolute path of a file of certificates. Raises `InvalidRequest` if the file cannot be used."""
    if not path:
        return ""
    absolute = str(Path(path).absolute())
    try:
        ssl.create_default_context().load_verify_locations(absolute)
    except ssl.SSLError as error:
        raise InvalidRequest(f"{path} contains no certificates (PEM).") from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}.") from error
    return absolute


def check_address(account: Account) -> None:
    """Raise `InvalidRequest` unless the fields of a new account are valid."""
    try:
        account.full_clean(validate_unique=False)
    except ValidationError as error:
        raise InvalidRequest(" ".join(error.messages)) from error


def test(account: Account) -> None:
    """Log in and out. Raises `AuthenticationFailed`, `UntrustedServer` or `ServiceUnreachable`."""

    async def log_in() -> None:
        service = AccountService(account)
        try:
            await service.log_in()
        finally:
            await service.close()

    run(log_in)


def try_out(account: Account, seconds: float) -> Directory:
    """Log in and out within a time, for a page of a web process.

    The session has a thread and an event loop of its own, so it never delays those of the web process. Nothing is read
    from the database or written to it.

    Args:
        account: The account, which may be unsaved.
        seconds: The time after which the caller gets an answer. The session ends soon after that.

    Returns:
        What the account lists about itself.

    Raises:
        AuthenticationFailed: The server refused the JID or the password.
        UntrustedServer: TLS is missing, or the certificate is not trusted.
        ServiceUnreachable: The server cannot be reached, or did not answer in time.
        ServiceError: The login succeeded, but the server does not list anything.
    """
    outcome: Future[Directory] = Future()

    async def log_in() -> None:
        service = AccountService(account)
        try:
            async with asyncio.timeout(seconds):
                outcome.set_result(await service.browse(account.jid))
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            await service.close()

    threading.Thread(target=lambda: asyncio.run(log_in()), name="pubsubcache-login", daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        late = f"Logging in as {account.jid} took over {seconds:g} seconds."
        raise ServiceUnreachable(late) from None
