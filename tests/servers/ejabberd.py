"""A private ejabberd: one domain with PEP, and one pubsub service where all users may create nodes."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from project.sample.certificates import Certificates
from project.sample.process import PrivateServer, ServerError, find_program, free_port
from project.sample.prosody import USERS
from tests.servers.xmpp import COMPONENT_SECRET, COMPONENTS, Logins, is_listening

CONFLICT = 409

CONFIG = Template("""\
loglevel: $log_level
log_rotate_count: 0
hosts: ["$domain"]
certfiles: ["$folder/server.pem"]
auth_password_format: scram
disable_sasl_mechanisms: ["digest-md5", "X-OAUTH2"]
max_fsm_queue: 100000
listen:
  - port: $port
    ip: "127.0.0.1"
    module: ejabberd_c2s
    max_stanza_size: 67108864
    starttls_required: true
  - port: $component_port
    ip: "127.0.0.1"
    module: ejabberd_service
    max_stanza_size: 67108864
    max_fsm_queue: 100000
    password: "$component_secret"
  - port: $http_port
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: {/api: mod_http_api}
acl:
  loopback: {ip: ["127.0.0.0/8"]}
access_rules:
  everybody: {allow: all}
api_permissions:
  tests:
    who: {access: {allow: [{acl: loopback}]}}
    what: ["*"]
modules:
  mod_admin_extra: {}
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_disco: {}
  mod_http_api: {}
  mod_offline: {}
  mod_ping: {}
  mod_privacy: {}
  mod_private: {}
  mod_pubsub:
    access_createnode: everybody
    host: "$component"
    ignore_pep_from_offline: false
    last_item_cache: false
    max_items_node: 100000
    plugins: ["flat", "pep"]
  mod_roster: {versioning: true}
  $stream_management
""")
STREAM_MANAGEMENT = "mod_stream_mgmt: {max_ack_queue: 50000, resend_on_timeout: false}"


class Ejabberd(PrivateServer, Logins):
    """An ejabberd with its data in `folder`, run without Erlang's distribution, so that no epmd is left running.

    External components can connect (XEP-0114). Without `stream_management` streams cannot be resumed (XEP-0198).
    """

    name = "ejabberd"

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        domain: str = "ejabberd.test",
        users: Mapping[str, str] = USERS,
        log_level: str = "info",
        stream_management: bool = True,
    ) -> None:
        super().__init__(folder, port)
        self.http_port, self.component_port = free_port(), free_port()
        self.components = tuple(f"{name}.{domain}" for name in COMPONENTS)
        self.stream_management = stream_management
        self.domain = domain
        self.pubsub = f"pubsub.{domain}"
        self.users = dict(users)
        self.log_level = log_level
        self.certificates = Certificates.in_folder(folder / "certificates", [domain, self.pubsub])
        self._registered = False

    @property
    def ca_file(self) -> Path:
        """The certificate of the CA to trust."""
        return self.certificates.ca_file

    def jid(self, user: str) -> str:
        """Return the bare JID of `user`."""
        return f"{user}@{self.domain}"

    def api(self, command: str, **arguments: Any) -> Any:
        """Run one of ejabberd's administration commands and return its result. Raises `HTTPError`."""
        request = urllib.request.Request(
            f"http://{self.host}:{self.http_port}/api/{command}",
            data=json.dumps(arguments).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def register(self, user: str, password: str) -> None:
        """Create the account `user`, or change its password."""
        try:
            self.api("register", user=user, host=self.domain, password=password)
        except urllib.error.HTTPError as error:
            if error.code != CONFLICT:
                raise
            self.api("change_password", user=user, host=self.domain, newpass=password)
        self.users[user] = password

    def delete(self, user: str) -> None:
        """Delete the account `user` and all its data."""
        self.api("unregister", user=user, host=self.domain)
        self.users.pop(user, None)

    def start(self) -> None:
        """Start the server; return when it answers and its accounts exist."""
        super().start()
        if not self._registered:
            for user, password in self.users.items():
                self.register(user, password)
            self._registered = True

    def present_certificate(self, pem: bytes) -> None:
        """Use another key and certificate for new connections; open ones are kept."""
        path = self.folder / "server.pem"
        changed = path.stat().st_mtime
        path.write_bytes(pem)
        os.utime(path, (changed + 2, changed + 2))  # a file changed within the same second is considered unchanged
        self.api("reload_config")

    def is_ready(self) -> bool:
        """Return whether the server accepts clients and commands."""
        if not super().is_ready() or not is_listening(self.host, self.component_port):
            return False
        try:
            self.api("status")
        except OSError:
            return False
        return True

    def command(self) -> list[str]:
        """Return the command line of the process, which stays in the foreground."""
        # Schedulers that busy-wait would take CPU time from the tests.
        return [
            *(find_program("erl", "ejabberd"), "+K", "true", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
            *("-noinput", "-start_epmd", "false", "-mnesia", "dir", f'"{self.folder}/database"', "-s", "ejabberd"),
        ]

    def environment(self) -> dict[str, str]:
        """Return the environment with the paths of ejabberd's files."""
        return {
            **os.environ,
            "ERL_LIBS": str(_libraries()),
            "EJABBERD_CONFIG_PATH": str(self.folder / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.folder / "own.log"),
            "ERL_CRASH_DUMP": str(self.folder / "crash.dump"),
            "HOME": str(self.folder),
        }

    def prepare(self) -> None:
        """Write the configuration."""
        (self.folder / "server.pem").write_bytes(self.certificates.bundle)
        settings = CONFIG.substitute(
            folder=self.folder,
            port=self.port,
            http_port=self.http_port,
            domain=self.domain,
            component=self.pubsub,
            log_level=self.log_level,
            component_port=self.component_port,
            component_secret=COMPONENT_SECRET,
            stream_management=STREAM_MANAGEMENT if self.stream_management else "",
        )
        (self.folder / "ejabberd.yml").write_text(settings)


def _libraries() -> Path:
    """Return the folder of Erlang libraries with ejabberd. Raises `ServerError` if there is none."""
    for pattern in ("lib/*/ejabberd-*", "lib/erlang/lib/ejabberd-*", "lib/ejabberd-*"):
        for found in sorted(Path("/usr").glob(f"{pattern}/ebin/ejabberd.app")):
            return found.parent.parent.parent
    raise ServerError("ejabberd is not installed: `sudo apt-get install ejabberd` brings it, and so does `make test`.")
