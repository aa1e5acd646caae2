"""`manage.py pubsub_account`: manages the accounts."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import IntegrityError, transaction

from pubsubcache.management import logins
from pubsubcache.management.base import PubsubCommand, add_noinput, text
from pubsubcache.management.forgetting import forget, unsubscribe
from pubsubcache.management.output import as_table, as_time, counted, progress_bar
from pubsubcache.models import Account, PubsubNode
from pubsubcache.services import remote
from pubsubcache.store.accounts import delete_accounts
from pubsubcache.utils import jid

COLUMNS = ("jid", "host", "port", "enabled", "status", "detail", "session_started", "nodes", "waiting")


class Command(PubsubCommand):
    """Adds, lists, removes and tests accounts. Passwords are never printed, and never passed as arguments."""

    help = "Manage the XMPP accounts that the cache logs in with."

    def is_read_only(self, options: dict[str, Any]) -> bool:
        """Whether the action writes nothing."""
        return options["action"] in ("list", "test")

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        add = self._action(actions, "add", "add an account")
        self._add_password(add)
        add.add_argument(
            "--host", type=text, default="", metavar="H", help="the host to connect to (default: from DNS)"
        )
        add.add_argument("--port", type=int, metavar="P", help="the port of that host")
        add.add_argument("--ca-file", type=text, default="", metavar="F", help="a file of certificates (PEM) to trust")
        add.add_argument("--insecure-tls", action="store_true", help="accept any certificate; only for tests")
        password = self._action(actions, "password", "change the password of an account")
        self._add_password(password)
        self._action(actions, "list", "list the accounts and the state of their sessions", takes_jid=False)
        remove = self._action(actions, "remove", "remove an account with all its nodes")
        remove.add_argument(
            "--keep-subscriptions", action="store_true", help="do not end the subscriptions at the services"
        )
        add_noinput(remove)
        self._action(actions, "test", "log in once and report the result")
        self.add_output(parser)

    def _action(self, actions: Any, name: str, meaning: str, *, takes_jid: bool = True) -> CommandParser:
        parser = self.add_action(actions, name, meaning)
        if takes_jid:
            parser.add_argument("jid", type=text, metavar="JID", help="the bare JID, such as alice@example.org")
        return parser

    @staticmethod
    def _add_password(parser: CommandParser) -> None:
        parser.add_argument(
            "--password-env", metavar="VAR", help="the environment variable with the password (default: ask for it)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['action']}")(options)

    def _add(self, options: dict[str, Any]) -> None:
        account = Account(
            jid=jid.account(options["jid"]),
            host=options["host"],
            port=options["port"],
            ca_file=logins.ca_file(options["ca_file"]),
            tls_verify=not options["insecure_tls"],
        )
        logins.check_address(account)
        exists = f"There is an account {account} already."
        if Account.objects.filter(jid=account.jid).exists():
            raise CommandError(exists)
        account.password = logins.password(account.jid, options["password_env"])
        try:
            with transaction.atomic():
                account.save(force_insert=True)
        except IntegrityError:
            raise CommandError(exists) from None
        remote.wake()
        self.print_result(options, as_data(account), f"{account} was added.")

    def _password(self, options: dict[str, Any]) -> None:
        account = self.account(options["jid"])
        account.password = logins.password(account.jid, options["password_env"])
        account.save(update_fields=["password"])
        remote.wake()
        self.print_result(options, as_data(account), f"{account} has a new password.")

    def _list(self, options: dict[str, Any]) -> None:
        accounts = Account.objects.defer("password").with_progress().order_by("jid")
        rows = [as_data(account) for account in accounts]
        if options["output"] == "json":
            self.print_json(rows)
        elif rows:
            cells = ([row[column] for column in COLUMNS] for row in rows)
            self.print_data(as_table(COLUMNS, cells, self.stdout, options))
        else:
            self.say(options, "There is no account yet: add one with pubsub_account add.")

    def _remove(self, options: dict[str, Any]) -> None:
        account = self.account(options["jid"])
        nodes = PubsubNode.objects.filter(account=account)
        self.confirm(options, f"Remove {account} and its {counted(nodes.count(), 'node')}?")
        # A disabled account is released by its worker, which then adds no more nodes.
        Account.objects.filter(pk=account.pk).update(enabled=False)
        remote.wake()
        keep = options["keep_subscriptions"]
        with progress_bar(self.stderr, "Removing", options) as report:
            forgotten = forget(nodes, unsubscribe=not keep, report=report)
        ended, left, why = (0, 0, "") if keep else unsubscribe(account)
        if left:
            self.say(options, f"{counted(left, 'subscription')} could not be ended at the services. {why}")
        delete_accounts(Account.objects.filter(pk=account.pk))
        remote.wake()
        self.print_result(
            options,
            {"removed": account.jid, "nodes": forgotten, "unsubscribed": ended},
            f"{account} removed: {counted(forgotten, 'node')} removed, {counted(ended, 'subscription')} ended.",
        )

    def _test(self, options: dict[str, Any]) -> None:
        account = self.account(options["jid"])
        logins.test(account)
        self.print_result(options, {"jid": account.jid, "ok": True}, f"OK: {account} can log in.")


def as_data(account: Account) -> dict[str, Any]:
    """Return an account and the state of its session as JSON data."""
    return {
        "jid": account.jid,
        "host": account.host,
        "port": account.port,
        "enabled": account.enabled,
        "status": account.status,
        "detail": account.status_detail,
        "session_started": as_time(account.session_started),
        "nodes": getattr(account, "number_of_nodes", 0),
        "waiting": getattr(account, "number_waiting", 0),
    }
