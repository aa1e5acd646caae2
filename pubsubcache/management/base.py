"""Base classes of all commands: exit codes, migrations, options and output.

Data goes to stdout, everything else to stderr. Exit codes: 0 success, 1 command or usage error, 3 not in the cache,
4 the service refused, 5 cannot connect or log in, 130 and 143 ended by a signal, 141 stdout was closed early.
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
from django.utils import translation

from pubsubcache import database
from pubsubcache.exceptions import InvalidRequest, PubsubCacheError
from pubsubcache.management.output import as_json, plain, writable
from pubsubcache.models import Account, PubsubNode, PubsubNodeQuerySet
from pubsubcache.store.activity import counters
from pubsubcache.utils import jid

USAGE_ERROR = 1
ARGPARSE_ERROR = 2
FILTERS = {
    "account": ("-a", "JID", "the account, a bare JID"),
    "service": ("-s", "JID", "the pubsub service"),
    "node": ("-n", "NAME", "the name of the node"),
    "type": ("-t", "TYPE", 'the type set by the analyser ("" for none)'),
    "subtype": ("-S", "SUBTYPE", 'the subtype ("" for none)'),
}


class ExitCodeCommand(BaseCommand):
    """A command that uses the project's exit codes, and reports every error in one sentence."""

    requires_migrations_checks = True
    read_only = False  # whether the command never migrates; override `is_read_only` if that depends on the options
    _reads_only = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser of the command line. Option names cannot be abbreviated."""
        return super().create_parser(prog_name, subcommand, **{"allow_abbrev": False, **kwargs})

    def is_read_only(self, options: dict[str, Any]) -> bool:
        """Whether the command, with these options, never migrates the database."""
        return self.read_only

    def check_migrations(self) -> None:
        """Migrate the database if the command writes and the site opted in. Raises `MigrationsPending`."""
        if self._reads_only:
            database.require()
        else:
            config: Any = apps.get_app_config("pubsubcache")
            config.prepare_database()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run with the arguments of the command line. Exits with the code of the error or signal."""
        try:
            super().run_from_argv(argv)
        except SystemExit as ended:
            if ended.code == ARGPARSE_ERROR:
                sys.exit(USAGE_ERROR)
            raise
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            # Otherwise the buffered output fails again when Python flushes it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command. Errors of the application become a `CommandError` with their exit code."""
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
    """A command that does its work and ends. It logs only errors unless `--verbosity` is raised."""

    formats: tuple[str, ...] = ("table", "json")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run in English, with the log level that `--verbosity` selects. Write what was counted."""
        with _log_level(options.get("verbosity", 1)), translation.override(None):
            try:
                return super().execute(*args, **options)
            finally:
                counters.flush_soon()

    # Options

    def add_output(self, parser: CommandParser | argparse.ArgumentParser, **changes: Any) -> None:
        """Add the option `-O`; `changes` override the arguments of `add_argument`."""
        parser.add_argument(
            "-O",
            "--output",
            choices=self.formats,
            **{"default": "table", "help": "the output format (default: table)", **changes},
        )

    def add_action(self, actions: Any, name: str, meaning: str) -> CommandParser:
        """Add an action, with the options that all commands have, to the result of `add_subparsers`."""
        texts = {"help": meaning, "description": f"{meaning[0].upper()}{meaning[1:]}."}
        parser: CommandParser = actions.add_parser(name, allow_abbrev=False, **texts)
        self.add_output(parser, default=argparse.SUPPRESS)
        parser.add_argument(
            "-v", "--verbosity", type=int, choices=range(4), default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        parser.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return parser

    def add_target(self, parser: CommandParser, *, node_required: bool = True) -> None:
        """Add the options that identify one node."""
        parser.add_argument(
            "-a", "--account", type=text, metavar="JID", help="the account to use (default: the only one there is)"
        )
        parser.add_argument(
            "-s", "--service", type=text, metavar="JID", help="the pubsub service (default: the account's own, PEP)"
        )
        parser.add_argument(
            "-n", "--node", type=text, required=node_required, metavar="NAME", help="the name of the node"
        )

    def add_filters(self, parser: CommandParser, *names: str) -> None:
        """Add options of `FILTERS`. Each can be repeated; nodes must match all given options."""
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
        """Return the account with the JID `given`, or the only account if it is None. Raises `InvalidRequest`."""
        if given is not None:
            account = Account.objects.filter(jid=(wanted := jid.account(given))).first()
            if account is None:
                raise InvalidRequest(f"There is no account {wanted}; {known_accounts()}")
            return account
        accounts = list(Account.objects.all()[:2])
        if len(accounts) == 1:
            return accounts[0]
        choose = "choose one with --account: " if accounts else ""
        raise InvalidRequest(f"No account is given; {choose}{known_accounts()}")

    def filtered_nodes(self, options: dict[str, Any]) -> PubsubNodeQuerySet:
        """Return the nodes that match the given filters. Raises `InvalidRequest`."""
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
        """Write a result to stdout without adding a newline. `errors` is as for `str.encode`."""
        self.stdout.write(writable(data, self.stdout, errors), ending="")

    def print_json(self, data: Any) -> None:
        """Write a result to stdout as one JSON document."""
        self.print_data(as_json(data, self.stdout) + "\n")

    def print_result(self, options: dict[str, Any], data: Any, sentence: str) -> None:
        """Write a result to stdout: `data` with `-O json`, otherwise `sentence`."""
        if options["output"] == "json":
            self.print_json(data)
        else:
            self.print_data(sentence + "\n")

    def say(self, options: dict[str, Any], sentence: str) -> None:
        """Write a message to stderr, unless `--verbosity` is 0."""
        if options["verbosity"] > 0:
            self.stderr.write(writable(plain(sentence), self.stderr), lambda said: said)

    def confirm(self, options: dict[str, Any], question: str) -> None:
        """Ask for confirmation on stderr unless `--noinput` is given. Raises `CommandError` if it is denied."""
        if not options["interactive"]:
            return
        self.stderr.write(f"{plain(question)} [yes/no] ", lambda said: said, ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was done.")


def add_noinput(parser: CommandParser | argparse.ArgumentParser) -> None:
    """Add the option `--noinput`."""
    parser.add_argument(
        "--noinput", "--no-input", action="store_false", dest="interactive", help="do not ask for confirmation"
    )


def text(value: str) -> str:
    """Return `value` if it can be encoded in UTF-8, as databases and services need. Raises `ArgumentTypeError`."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{value!a} is not text in the encoding of this terminal") from None
    return value


def known_accounts() -> str:
    """Return a list of the accounts, as the end of a sentence."""
    jids = list(Account.objects.values_list("jid", flat=True)[:11])
    if not jids:
        return "there is none yet: add one with pubsub_account add."
    return f"there {'are' if len(jids) > 1 else 'is'} {', '.join(jids[:10])}{' and more' if len(jids) > 10 else ''}."


@contextmanager
def _log_level(verbosity: int) -> Iterator[None]:
    """Set the log level during the block. By default only errors are logged, because the output has the rest."""
    levels = {0: logging.ERROR, 1: logging.ERROR, 3: logging.DEBUG}
    logger = logging.getLogger("pubsubcache")
    before = logger.level
    logger.setLevel(levels.get(verbosity, before))
    try:
        yield
    finally:
        logger.setLevel(before)
