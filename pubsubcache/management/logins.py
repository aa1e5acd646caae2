"""Reads and checks login data before they are stored."""

import getpass
import os
import ssl
import sys
from pathlib import Path

from django.core.exceptions import ValidationError

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.management.network import AccountService, run
from pubsubcache.models import Account


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
