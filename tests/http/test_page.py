"""The files of the dashboard: how they are served, and what they must not hold."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

import ccm.http
from ccm.http import Settings

from .live import Live, in_thread

STATIC = Path(ccm.http.__file__).parent / "static"
OWN = sorted(path for path in STATIC.rglob("*") if path.is_file() and "vendor" not in path.parts)
CODE = [path for path in OWN if path.suffix in (".js", ".html", ".css")]
# What would make markup or code of text, and what the policy of the page forbids.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|DOMParser"
    r"|createContextualFragment|https?://(?!www\.w3\.org/)|@import|url\("
)


def name(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


@pytest.mark.parametrize("path", CODE, ids=name)
def test_files_are_short_and_make_no_markup_of_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 450
    assert not FORBIDDEN.findall(text)


def test_the_page_has_nothing_inline() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for address in re.findall(r'(?:src|href)="/static/([^"]+)"', page):
        assert (STATIC / address).is_file(), address


def test_what_scripts_import_is_there() -> None:
    for path in STATIC.glob("js/*.js"):
        for address in re.findall(r'from "(\.[^"]+)"', path.read_text(encoding="utf-8")):
            assert (path.parent / address).is_file(), f"{path.name}: {address}"


def test_what_others_made_has_its_licence() -> None:
    for folder in (STATIC / "vendor").iterdir():
        if folder.is_dir():
            assert "Permission is hereby granted" in (folder / "LICENSE").read_text(encoding="utf-8")
            assert f"`{folder.name}/LICENSE`" in (STATIC / "vendor" / "README.md").read_text(encoding="utf-8")


def test_a_page_with_its_policy(live: Live) -> None:
    answer = live.get("/")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert b"<title>ccm " in answer.body
    assert live.get("/favicon.ico").headers["Content-Type"] == "image/svg+xml"


def test_the_title_is_text() -> None:
    with in_thread(settings=Settings(rate=None, title="<script>x</script>")) as live:
        body = live.get("/").body
    assert b"<script>x" not in body
    assert b"&lt;script&gt;x" in body


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("js/main.js", "text/javascript; charset=utf-8"),
        ("style/base.css", "text/css; charset=utf-8"),
        ("vendor/uplot/LICENSE", "text/plain; charset=utf-8"),
    ],
)
def test_files_are_sent_packed_and_once(live: Live, path: str, kind: str) -> None:
    body = (STATIC / path).read_bytes()
    plain = live.get(f"/static/{path}")
    assert (plain.status, plain.body, plain.headers["Content-Type"]) == (200, body, kind)
    assert (plain.headers["Cache-Control"], plain.headers["Vary"]) == ("no-cache", "Accept-Encoding")
    packed = live.get(f"/static/{path}", Accept_Encoding="br, gzip;q=0.8")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == body
    for known in (plain.headers["ETag"], f'"other", W/{plain.headers["ETag"]}'):
        again = live.get(f"/static/{path}", If_None_Match=known)
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["/static/", "/static/none.js", "/static/../_page.py", "/static/%2e%2e/_page.py", "/static//etc/passwd"],
)
def test_no_path_leads_elsewhere(live: Live, path: str) -> None:
    answer = live.get(f"/static/{path}")
    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")
