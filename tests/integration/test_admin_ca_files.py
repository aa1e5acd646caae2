"""Test that the admin accepts only certificates in the site's folder as CA files."""

from pathlib import Path
from typing import Any

import pytest

from project.sample.certificates import Certificates
from pubsubcache.models import Account
from tests.admin_data import account, superuser, url

pytestmark = pytest.mark.django_db
REFUSED = "The site's folder for CA files does not contain such a PEM file of certificates."


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.in_folder(tmp_path / "elsewhere", ["example.org"])


@pytest.fixture
def folder(tmp_path: Path, certificates: Certificates, settings: Any) -> Path:
    """The site's folder for CA files, with one CA file and many other files."""
    folder = tmp_path / "cas"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "ca.pem").write_bytes(certificates.ca_file.read_bytes())
    (folder / "link-within").symlink_to("below/ca.pem")
    (folder / "link-outside").symlink_to(certificates.ca_file)
    (folder / "loop").symlink_to("loop")
    (folder / "text").write_text("no certificate")
    (folder / "empty").touch()
    (folder / "damaged").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    (folder / "with-key").write_bytes(certificates.bundle)
    (folder / "huge").write_bytes(certificates.ca_file.read_bytes() + b"\n" * 5_000_000)
    settings.PUBSUBCACHE_CA_FOLDER = str(folder)
    return folder


def add(**fields: str) -> Any:
    posted = {"jid": "alice@example.org", "new_password": "secret", "tls_verify": "on", "enabled": "on", **fields}
    return superuser().post(url("account", "add"), posted)


@pytest.mark.parametrize("name", ["below/ca.pem", "link-within", "below/../below/ca.pem", "{folder}/below/ca.pem"])
def test_certificates_in_the_folder_are_accepted(folder: Path, name: str) -> None:
    assert add(ca_file=name.format(folder=folder)).status_code == 302
    assert Account.objects.get().ca_file == str(folder.resolve() / "below" / "ca.pem")


@pytest.mark.parametrize(
    "name",
    [
        "missing", "below", ".", "..", "text", "empty", "damaged", "with-key", "huge", "loop", "link-outside",
        "../elsewhere/ca.pem", "../elsewhere/missing.pem", "../elsewhere/server.key", "{folder}-not/ca.pem",
        "/etc/passwd", "/etc/missing", "/etc/ssl/certs/ca-certificates.crt", "/dev/zero", "x" * 900, "~/ca.pem",
    ],
)  # fmt: skip
def test_other_files_are_refused_with_the_same_error(folder: Path, name: str) -> None:
    response = add(ca_file=name.format(folder=folder))
    assert response.context["adminform"].form.errors == {"ca_file": [REFUSED]}
    assert not Account.objects.exists()


def test_ca_file_without_a_folder_is_a_form_error(certificates: Certificates) -> None:
    response = add(ca_file=str(certificates.ca_file))
    assert list(response.context["adminform"].form.errors) == ["ca_file"]
    assert "only commands can set it" in response.content.decode()


def test_ca_file_set_by_a_command_is_kept_and_can_be_removed(certificates: Certificates) -> None:
    made = account(ca_file=str(certificates.ca_file))
    client, page = superuser(), url("account", "change", made.pk)
    kept = {"tls_verify": "on", "ca_file": str(certificates.ca_file)}
    assert client.post(page, {**kept, "enabled": ""}).status_code == 302
    made.refresh_from_db()
    assert (made.ca_file, made.enabled) == (str(certificates.ca_file), False)
    assert client.post(page, {**kept, "ca_file": "", "new_password": "new"}).status_code == 302
    made.refresh_from_db()
    assert made.ca_file == ""
