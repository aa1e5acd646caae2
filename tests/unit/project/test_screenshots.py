"""Test that the pictures of the documentation are there, of moderate size, and shown. `make screenshots` takes them."""

from docs.screenshots import FOLDER, MAX_SIZE, PICTURES

PNG = b"\x89PNG\r\n\x1a\n"


def test_every_picture_is_stored_and_shown() -> None:
    readme = (FOLDER.parent / "README.md").read_text().replace("](docs/", "](")
    pages = readme + "".join(page.read_text() for page in FOLDER.glob("*.md"))
    assert {path.name for path in FOLDER.glob("*.png")} == {picture.file.name for picture in PICTURES}
    for picture in PICTURES:
        image = picture.file.read_bytes()
        assert image.startswith(PNG)
        assert len(image) <= MAX_SIZE
        width, height = int.from_bytes(image[16:20]), int.from_bytes(image[20:24])
        assert (width, height) == (picture.width, picture.height)
        assert f"]({picture.file.name})" in pages


def test_readme_opens_with_the_dashboard() -> None:
    readme = (FOLDER.parent / "README.md").read_text()
    assert readme.partition("![")[2].partition(")")[0].endswith("](docs/dashboard.png")
