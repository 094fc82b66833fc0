"""`ccm keys`: make, list and revoke the API keys of a server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ._console import OK, UsageError, load_tables, print_json, say
from ._kept import add_yes, confirm

if TYPE_CHECKING:
    from ccm.http import Keys

SCOPES = ("chat", "read", "admin")


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "keys",
        help="API keys of a server: new, list, revoke",
        description="Looks after the file of API keys that 'ccm serve --keys' reads, also while it runs. "
        "The file holds fingerprints: a key is shown once, when it is made.",
    )
    parts = parser.add_subparsers(metavar="WHAT", required=True)
    for name, function, text in (
        ("new", _new, "make a key and show it, this once"), ("list", _list, "the keys, without the keys"),
        ("revoke", _revoke, "make a key worthless; a server notices when it is started again"),
    ):  # fmt: skip
        part = parts.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        part.add_argument("file", metavar="FILE", help="the file of keys, a TOML file")
        if name == "new":
            part.add_argument("--name", required=True, metavar="NAME", help="whose it is; must be new")
            part.add_argument(
                "--scope", action="append", choices=SCOPES, default=[],
                help="what it may do: chat (talk), read (look at everything), admin (all); may be repeated "
                "(default chat)",
            )  # fmt: skip
            part.add_argument("--tenant", metavar="TENANT", help="the only tenant that it may touch")
        if name == "revoke":
            part.add_argument("name", metavar="NAME", help="its name, or its id")
            add_yes(part)
        part.add_argument("--json", action="store_true", help="print the result as JSON, nothing else")
        part.set_defaults(command=function)


def _load(path: str, *, new: bool = False) -> Keys:
    """The keys in a file.

    Raises:
        UsageError: it cannot be read, or the package for it is missing.
    """
    try:
        from ccm.http import Keys
    except ModuleNotFoundError as error:
        raise UsageError(
            f"ccm keys needs the package {error.name!r}, which is not installed; "
            "run: pip install 'ccm[serve]'"
        ) from None
    try:
        return Keys.load(path)
    except FileNotFoundError:
        if new:
            return Keys()
        raise UsageError(f"there is no file {path!r}; make it with 'ccm keys new {path} --name me'") from None
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


def _save(keys: Keys, path: str) -> None:
    try:
        keys.save(path)
    except OSError as error:
        raise UsageError(f"cannot write {path!r}: {error.strerror}; nothing was changed") from None


def _new(arguments: argparse.Namespace) -> int:
    keys = _load(arguments.file, new=True)
    try:
        secret, key = keys.make(arguments.name, arguments.scope or ("chat",), arguments.tenant)
        keys = keys.with_key(key)
    except ValueError as error:
        raise UsageError(str(error)) from None
    _save(keys, arguments.file)
    if arguments.json:
        print_json(_data(key) | {"key": secret})
        return OK
    say(f"a key for {key.name!r} with {_scopes(key)}; it is shown this once, the file has its fingerprint:")
    print(secret)
    say(f"'ccm serve --keys {arguments.file}' lets it in, a running one in a second")
    return OK


def _list(arguments: argparse.Namespace) -> int:
    keys = _load(arguments.file)
    if arguments.json:
        print_json({"keys": [_data(key) for key in keys]})
        return OK
    rows = [
        (key.name, key.id, _scopes(key), "any" if key.tenant is None else key.tenant,
         key.created.strftime("%Y-%m-%d %H:%M"))
        for key in keys
    ]  # fmt: skip
    note = "" if rows else f"there is no key in {arguments.file}; 'ccm keys new' makes one"
    load_tables().print_rows(
        f"keys in {arguments.file}", ("name", "id", "scopes", "tenant", "made"), rows, note
    )
    return OK


def _revoke(arguments: argparse.Namespace) -> int:
    keys = _load(arguments.file)
    try:
        left = keys.without(arguments.name)
    except KeyError:
        raise UsageError(
            f"there is no key {arguments.name!r} in {arguments.file}; 'ccm keys list' shows them"
        ) from None
    if not confirm(f"the key {arguments.name!r} will be worthless", arguments):
        say("nothing was changed")
        return OK
    _save(left, arguments.file)
    if arguments.json:
        print_json({"revoked": arguments.name, "left": len(left)})
    else:
        say(f"revoked {arguments.name!r}, {len(left)} left; a server that runs follows in a second")
    return OK


def _data(key: Any) -> dict[str, Any]:
    return {
        "name": key.name, "id": key.id, "scopes": [scope for scope in SCOPES if scope in key.scopes],
        "tenant": key.tenant, "created": key.created.isoformat(),
    }  # fmt: skip


def _scopes(key: Any) -> str:
    return ", ".join(scope for scope in SCOPES if scope in key.scopes)
