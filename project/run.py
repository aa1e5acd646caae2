"""Entry point of `make run`: serves the admin and runs the cache, with a given account or with sample nodes.

Environment variables: XMPP_JID and XMPP_PASSWORD (with XMPP_HOST, XMPP_PORT and XMPP_CA_FILE) set the account, BIND or
PORT the address to listen on. All others are those of the settings.
"""

import asyncio
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from project.sample.prosody import Prosody
    from pubsubcache.models import Account

ADMIN = "admin"
SAMPLE_USER = "alice"
READY_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0


class CannotRun(Exception):
    """The site cannot be started; the message is one sentence with the reason."""


def bind_address() -> tuple[str, int]:
    """Return the host and port to listen on. Raises `CannotRun` if they are invalid or in use."""
    bind = os.environ.get("BIND") or f"127.0.0.1:{os.environ.get('PORT') or 8000}"
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise CannotRun(f"Invalid address {bind!r}: BIND must be HOST:PORT, and PORT a number.")
    try:
        socket.create_server((host, int(port))).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise CannotRun(f"Cannot listen on {bind}: {reason}. Choose another port, as in PORT=8080 make run.") from error
    return host, int(port)


def admin_login(folder: Path) -> str:
    """Create the superuser of the admin if it does not exist, and describe how to log in."""
    from django.contrib.auth import get_user_model

    from project.sample.service import read_or_make

    users = get_user_model().objects
    password = read_or_make(folder / "admin_password", secrets.token_urlsafe(12))
    user = users.filter(username=ADMIN).first()
    if user is None:
        user = users.create_superuser(ADMIN, password=password)
    if user.check_password(password):
        return f"user {ADMIN}, password {password}"
    return f"user {ADMIN}, with the password that you set"


def save_account(**fields: Any) -> "Account":
    """Create or update the account with the JID in `fields`, and enable it. Raises `CannotRun` if it is invalid."""
    from django.core.exceptions import ValidationError

    from pubsubcache.models import Account

    account = Account.objects.filter(jid=fields["jid"]).first() or Account()
    for name, value in {**fields, "enabled": True}.items():
        setattr(account, name, value)
    try:
        account.full_clean(validate_unique=False)
    except ValidationError as error:
        raise CannotRun(f"The account cannot be used: {' '.join(error.messages)}") from error
    account.save()
    return account


def given_account() -> "Account | None":
    """Return the account from the environment, or None. Raises `CannotRun` if its password is missing."""
    if not (jid := os.environ.get("XMPP_JID")):
        return None
    if not (password := os.environ.get("XMPP_PASSWORD")):
        raise CannotRun("XMPP_JID is set, but XMPP_PASSWORD is not.")
    return save_account(
        jid=jid.strip().lower(),
        password=password,
        host=os.environ.get("XMPP_HOST", ""),
        port=os.environ.get("XMPP_PORT") or None,
        ca_file=os.environ.get("XMPP_CA_FILE", ""),
    )


def sample_account(prosody: "Prosody") -> "Account":
    """Return the account that reads the sample nodes."""
    return save_account(
        jid=prosody.jid(SAMPLE_USER),
        password=prosody.users[SAMPLE_USER],
        host=prosody.host,
        port=prosody.port,
        ca_file=str(prosody.ca_file),
    )


def forget_sample_account() -> None:
    """Disable the sample account, so that no worker tries to log in while the sample does not run."""
    from project.sample.service import DOMAIN
    from pubsubcache.models import Account

    Account.objects.filter(jid=f"{SAMPLE_USER}@{DOMAIN}").update(enabled=False)


async def announce(address: tuple[str, int], words: str, login: str) -> None:
    """Print `words`, the address of the admin and how to log in, as soon as the site accepts connections."""
    host, port = ("127.0.0.1" if address[0] in ("0.0.0.0", "::") else address[0]), address[1]  # noqa: S104
    async with asyncio.timeout(READY_TIMEOUT):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            writer.close()
            break
    print("", words, f"The admin is at http://{host}:{port}/admin/", login, sep="\n", flush=True)


@contextmanager
def meanwhile(*tasks: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Run coroutines on an event loop in a separate thread, and cancel them at the end of the block."""
    loop = asyncio.new_event_loop()

    async def all_of_them() -> None:
        await asyncio.gather(*tasks)

    main = loop.create_task(all_of_them())
    thread = threading.Thread(target=_run, args=(loop, main), name="sample", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(main.cancel)
        thread.join(STOP_TIMEOUT)


def _run(loop: asyncio.AbstractEventLoop, main: "asyncio.Task[None]") -> None:
    try:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(main)
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def serve(address: tuple[str, int]) -> None:
    """Serve the site and keep the sessions open until a signal ends the process."""
    from django.core.management import CommandError, call_command

    try:
        call_command("pubsub_serve", bind=f"{address[0]}:{address[1]}")
    except CommandError as error:
        raise CannotRun(str(error)) from error


def run() -> None:
    """Prepare and serve the site. Raises `CannotRun`, or `KeyboardInterrupt` on a signal."""
    from django.conf import settings

    from pubsubcache import database
    from pubsubcache.exceptions import PubsubCacheError

    address = bind_address()
    with ExitStack() as stack:
        try:
            database.prepare(whole_site=True)
            login = f"Log in as {admin_login(settings.DATA_DIR)}."
            account = given_account()
            if account is not None:
                forget_sample_account()
                tasks = [announce(address, f"The account is {account.jid}.", login)]
            else:
                tasks = _start_sample(stack, address, login)
        except PubsubCacheError as error:
            raise CannotRun(str(error)) from error
        stack.enter_context(meanwhile(*tasks))
        serve(address)


def _start_sample(stack: ExitStack, address: tuple[str, int], login: str) -> list[Coroutine[Any, Any, None]]:
    """Start the sample, which `stack` stops, and return the coroutines to run meanwhile."""
    from django.conf import settings

    from project.sample import content
    from project.sample.process import ServerError
    from project.sample.service import sample_service
    from project.sample.visit import visit

    print(
        "Starting a private Prosody with sample nodes. Set XMPP_JID and XMPP_PASSWORD to use your own account.",
        flush=True,
    )
    try:
        prosody = stack.enter_context(sample_service(settings.DATA_DIR / "sample"))
    except ServerError as error:
        raise CannotRun(str(error)) from error
    asyncio.run(content.publish(prosody))
    account = sample_account(prosody)
    words = f"The account is {account.jid}, on a private Prosody at {prosody.host}:{prosody.port}."
    return [announce(address, words, login), visit(account, prosody)]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run until Ctrl-C or SIGTERM; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    try:
        django.setup()
        run()
    except (CannotRun, ImproperlyConfigured) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
