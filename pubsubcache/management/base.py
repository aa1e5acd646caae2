"""What all commands have in common: exit codes, the database made ready, options, output.

Data goes to stdout, all else to stderr. Exit codes: 0 done, 1 command or usage error, 3 not in the cache, 4 the
service refused, 5 cannot connect or log in; 130 and 143 when a signal ended it, 141 when nobody read on.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from pubsubcache import database
from pubsubcache.exceptions import InvalidRequest, PubsubCacheError
from pubsubcache.management.output import as_json, plain, writable
from pubsubcache.models import Account, PubsubNode, PubsubNodeQuerySet
from pubsubcache.utils import jid

USAGE_ERROR = 1
ARGPARSE_ERROR = 2
FILTERS = {
    "account": ("-a", "JID", "the login, a bare JID"),
    "service": ("-s", "JID", "the pubsub service"),
    "node": ("-n", "NAME", "the node's name"),
    "type": ("-t", "TYPE", 'the type given by the analyser ("" for none)'),
    "subtype": ("-S", "SUBTYPE", 'the subtype ("" for none)'),
}


class ExitCodeCommand(BaseCommand):
    """A command that ends with the project's exit codes, and with one sentence for whatever goes wrong."""

    requires_migrations_checks = True
    read_only = False  # whether the command never migrates; `is_read_only` may decide by its options
    _reads_only = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser of the command line, which takes options by their full name only."""
        return super().create_parser(prog_name, subcommand, **{"allow_abbrev": False, **kwargs})

    def is_read_only(self, options: dict[str, Any]) -> bool:
        """Whether the command, with these options, leaves the database alone when migrations are lacking."""
        return self.read_only

    def check_migrations(self) -> None:
        """Migrate the database if needed, the command writes and the site opted in. Raises `MigrationsPending`."""
        if self._reads_only:
            database.require()
        else:
            config: Any = apps.get_app_config("pubsubcache")
            config.prepare_database()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as the command line asks, and exit."""
        try:
            super().run_from_argv(argv)
        except SystemExit as ended:
            if ended.code == ARGPARSE_ERROR:
                sys.exit(USAGE_ERROR)
            raise
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            # What is still buffered must not fail again when Python flushes it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run; what the application raises becomes a `CommandError` with its exit code."""
        self._reads_only = self.is_read_only(options)
        try:
            answer = super().execute(*args, **options)
            self.stdout.flush()
        except PubsubCacheError as error:
            raise CommandError(plain(str(error)), returncode=error.exit_code) from error
        except OperationalError as error:
            raise CommandError(f"The database cannot be used: {plain(str(error))}.") from error
        return answer


class PubsubCommand(ExitCodeCommand):
    """A command that does something and ends; its log is kept to errors unless more is asked for."""

    formats: tuple[str, ...] = ("table", "json")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run with a log as detailed as `--verbosity` says."""
        with _log_level(options.get("verbosity", 1)):
            return super().execute(*args, **options)

    # Options

    def add_output(self, parser: CommandParser | argparse.ArgumentParser, **changes: Any) -> None:
        """Take `-O`."""
        parser.add_argument(
            "-O",
            "--output",
            choices=self.formats,
            **{"default": "table", "help": "how to print the result (default: table)", **changes},
        )

    def add_target(self, parser: CommandParser, *, node_required: bool = True) -> None:
        """Take the options that name one node."""
        parser.add_argument(
            "-a", "--account", type=text, metavar="JID", help="the login to use (default: the only one there is)"
        )
        parser.add_argument(
            "-s", "--service", type=text, metavar="JID", help="the pubsub service (default: the account's own, PEP)"
        )
        parser.add_argument(
            "-n", "--node", type=text, required=node_required, metavar="NAME", help="the name of the node"
        )

    def add_filters(self, parser: CommandParser, *names: str) -> None:
        """Take options of `FILTERS`: each may be repeated, and all given must be fulfilled."""
        for name in names:
            flag, metavar, meaning = FILTERS[name]
            parser.add_argument(
                flag,
                f"--{name}",
                action="append",
                default=[],
                type=text,
                metavar=metavar,
                help=f"{meaning}; may be repeated",
            )

    def account(self, given: str | None) -> Account:
        """Return the account `given`, or the only one. Raises `InvalidRequest`."""
        if given is not None:
            account = Account.objects.filter(jid=(wanted := jid.account(given))).first()
            if account is None:
                raise InvalidRequest(f"There is no account {wanted}; {known_accounts()}")
            return account
        accounts = list(Account.objects.all()[:2])
        if len(accounts) == 1:
            return accounts[0]
        chooses = "choose one with --account: " if accounts else ""
        raise InvalidRequest(f"No account is given; {chooses}{known_accounts()}")

    def filtered_nodes(self, options: dict[str, Any]) -> PubsubNodeQuerySet:
        """Return the nodes that fulfil the filters given. Raises `InvalidRequest`."""
        accounts = [self.account(given).jid for given in options.get("account") or []]
        return PubsubNode.objects.matching(
            accounts=accounts,
            services=[jid.normalise(given) for given in options.get("service") or []],
            nodes=options.get("node") or [],
            types=options.get("type") or [],
            subtypes=options.get("subtype") or [],
        )

    # Output

    def print_data(self, data: str, errors: str = "replace") -> None:
        """Write a result, which ends its own lines, to stdout; `errors` as for `str.encode`."""
        self.stdout.write(writable(data, self.stdout, errors), ending="")

    def print_json(self, data: Any) -> None:
        """Write a result to stdout as one JSON document."""
        self.print_data(as_json(data, self.stdout) + "\n")

    def print_result(self, options: dict[str, Any], data: Any, sentence: str) -> None:
        """Write a result to stdout: as JSON if that was asked for, else as a sentence."""
        if options["output"] == "json":
            self.print_json(data)
        else:
            self.print_data(sentence + "\n")

    def say(self, options: dict[str, Any], sentence: str) -> None:
        """Tell something that is no result, on stderr."""
        if options["verbosity"] > 0:
            self.stderr.write(writable(plain(sentence), self.stderr), lambda said: said)

    def confirm(self, options: dict[str, Any], question: str) -> None:
        """Ask on stderr whether to go on, unless `--noinput` was given. Raises `CommandError` if not."""
        if not options["interactive"]:
            return
        self.stderr.write(f"{plain(question)} [yes/no] ", lambda said: said, ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was done.")


def add_noinput(parser: CommandParser | argparse.ArgumentParser) -> None:
    """Take `--noinput`."""
    parser.add_argument(
        "--noinput", "--no-input", action="store_false", dest="interactive", help="don't ask for confirmation"
    )


def text(value: str) -> str:
    """Return an argument that is text, which databases and services take. Raises `ArgumentTypeError`."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{value!a} is not text in the encoding of this terminal") from None
    return value


def known_accounts() -> str:
    """Return which accounts there are, as the end of a sentence."""
    jids = list(Account.objects.values_list("jid", flat=True)[:11])
    if not jids:
        return "there is none yet: add one with pubsub_account add."
    return f"there {'are' if len(jids) > 1 else 'is'} {', '.join(jids[:10])}{' and more' if len(jids) > 10 else ''}."


@contextmanager
def _log_level(verbosity: int) -> Iterator[None]:
    """Log nothing below errors unless asked: what matters is in the result, or in the one sentence."""
    levels = {0: logging.ERROR, 1: logging.ERROR, 3: logging.DEBUG}
    logger = logging.getLogger("pubsubcache")
    before = logger.level
    logger.setLevel(levels.get(verbosity, before))
    try:
        yield
    finally:
        logger.setLevel(before)
