"""Runs a private Prosody with one domain, PEP, a pubsub component, and accounts with given passwords."""

import hashlib
import hmac
import os
import secrets
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from string import Template
from urllib.parse import quote

from project.sample.certificates import Certificates
from project.sample.process import PrivateServer, find_program, give, user_for

ITERATIONS = 10_000
USERS = {"alice": "wonderland-1865", "bob": "builder-of-bridges", "carol": "a christmas one"}

CONFIG = Template("""\
run_as_root = $run_as_root
pidfile = "$folder/prosody.pid"
data_path = "$folder/data"
certificates = "$folder/certificates"
interfaces = { "127.0.0.1" }
c2s_ports = { $port }
c2s_direct_tls_ports = { }
s2s_ports = { }
http_ports = { }
https_ports = { }
modules_disabled = { "s2s" }
modules_enabled = {
  "roster"; "saslauth"; "tls"; "disco"; "pep"; "smacks"; "ping"; "carbons"; "private"; "blocklist"; "offline"; "posix";
}
log = { { levels = { min = "$log_level" }, to = "console" } }
ssl = { key = "$folder/certificates/server.key"; certificate = "$folder/certificates/server.pem"; }
c2s_require_encryption = true
authentication = "internal_hashed"
default_storage = "sql"
storage = { accounts = "internal"; accounts_roles = "internal"; }
sql = { driver = "SQLite3"; database = "$folder/prosody.sqlite"; }
c2s_stanza_size_limit = 10485760
smacks_max_queue_size = 50000
pep_max_items = 100000
pubsub_max_items = 100000

VirtualHost "$domain"

Component "$component" "pubsub"
  autocreate_on_publish = true
  admins = { $admins }
""")


class Prosody(PrivateServer):
    """A private Prosody.

    Args:
        folder: Folder for its data.
        port: Port for clients; 0 for any free port.
        domain: Domain of the accounts.
        users: Passwords by name of the account.
        admins: Accounts that own all nodes of the pubsub component, and who alone can create nodes there.
        log_level: Minimum level of log messages.
    """

    name = "prosody"

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        domain: str = "prosody.test",
        users: Mapping[str, str] = USERS,
        admins: tuple[str, ...] = ("bob",),
        log_level: str = "info",
    ) -> None:
        super().__init__(folder, port)
        self.domain = domain
        self.pubsub = f"pubsub.{domain}"
        self.users = dict(users)
        self.admins = admins
        self.log_level = log_level
        self.certificates = Certificates.in_folder(folder / "certificates", [domain, self.pubsub])

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority to trust."""
        return self.certificates.ca_file

    def jid(self, user: str) -> str:
        """Return the bare JID of a user."""
        return f"{user}@{self.domain}"

    def register(self, user: str, password: str) -> None:
        """Create an account or change its password; the server may be running."""
        self.users[user] = password
        accounts = self.folder / "data" / _encoded(self.domain) / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        path = accounts / f"{_encoded(user)}.dat"
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(_scram_credentials(password))
        if self.user:
            shutil.chown(draft, self.user)
        draft.replace(path)

    def command(self) -> list[str]:
        return [find_program("prosody", "prosody"), "-F", "--config", str(self.folder / "prosody.cfg.lua")]

    def environment(self) -> dict[str, str]:
        """Return the environment without the variables of Prosody."""
        return {name: value for name, value in os.environ.items() if not name.startswith("PROSODY_")}

    def prepare(self) -> None:
        """Write the configuration and the accounts. As root, run the server as another user if possible."""
        self.user = None
        if os.geteuid() == 0:
            give(self.folder, "root")
        runs_as = user_for(self.folder, "prosody", "nobody")
        settings = CONFIG.substitute(
            folder=self.folder,
            run_as_root="false" if runs_as else "true",
            port=self.port,
            domain=self.domain,
            component=self.pubsub,
            log_level=self.log_level,
            admins="; ".join(f'"{self.jid(user)}"' for user in self.admins),
        )
        (self.folder / "prosody.cfg.lua").write_text(settings)
        for user, password in self.users.items():
            self.register(user, password)
        # WAL is a property of the file. Without it, every published item would wait for the disk several times.
        with closing(sqlite3.connect(self.folder / "prosody.sqlite")) as database:
            database.execute("PRAGMA journal_mode=WAL")
        if runs_as:
            give(self.folder, runs_as)
            self.user = runs_as


def _encoded(name: str) -> str:
    """Encode a name like Prosody does for file names: everything but letters and digits in hexadecimal."""
    return (
        "".join(
            character if character.isascii() and character.isalnum() else quote(character, safe="").lower()
            for character in name
        )
        .replace(".", "%2e")
        .replace("-", "%2d")
        .replace("_", "%5f")
        .replace("~", "%7e")
    )


def _scram_credentials(password: str) -> str:
    """Return the account file for Prosody's "internal_hashed" authentication (SCRAM-SHA-1, RFC 5802)."""
    salt = secrets.token_hex(16)
    salted = hashlib.pbkdf2_hmac("sha1", password.encode(), salt.encode(), ITERATIONS)
    stored_key = hashlib.sha1(hmac.digest(salted, b"Client Key", "sha1")).hexdigest()  # noqa: S324
    server_key = hmac.digest(salted, b"Server Key", "sha1").hex()
    return (
        f'return {{ ["salt"] = "{salt}"; ["iteration_count"] = {ITERATIONS};'
        f' ["stored_key"] = "{stored_key}"; ["server_key"] = "{server_key}"; }};\n'
    )
