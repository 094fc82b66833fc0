"""The tables of a SQLite storage, and how older files are brought up to date.

`MIGRATIONS[n]` turns version n into version n + 1. A migration that has been published is never changed.

`members` are those who spoke in a conversation, `actors` those who did something to it or were put in charge
of it: where to look for what is known of a user. Ids of entries are never given again (AUTOINCREMENT), for
lines that leave for the archive keep theirs.
"""

from __future__ import annotations

VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('seq', 0), ('letter', 0), ('owner', '');

CREATE TABLE inbox (
    seq INTEGER PRIMARY KEY, conversation TEXT NOT NULL, tenant TEXT NOT NULL, user TEXT NOT NULL,
    at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL
);
CREATE TABLE seen (
    tenant TEXT NOT NULL, message_id TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (tenant, message_id)
) WITHOUT ROWID;
CREATE INDEX seen_in_order ON seen (seq);

CREATE TABLE conversations (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, channel TEXT NOT NULL,
    created REAL NOT NULL, updated REAL NOT NULL, status TEXT NOT NULL DEFAULT 'open',
    stage TEXT NOT NULL DEFAULT '', agent TEXT NOT NULL DEFAULT '', paused INTEGER NOT NULL DEFAULT 0,
    summary TEXT NOT NULL DEFAULT '', score REAL, criteria TEXT NOT NULL DEFAULT '{}',
    messages INTEGER NOT NULL DEFAULT 0, replies INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX conversations_by_change ON conversations (updated, id);
CREATE INDEX conversations_paused ON conversations (id) WHERE paused;
CREATE TABLE members (
    user TEXT NOT NULL, conversation INTEGER NOT NULL, PRIMARY KEY (user, conversation)
) WITHOUT ROWID;
CREATE INDEX members_of ON members (conversation);
CREATE TABLE actors (
    user TEXT NOT NULL, conversation INTEGER NOT NULL, PRIMARY KEY (user, conversation)
) WITHOUT ROWID;

CREATE TABLE turns (
    seq INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, tenant TEXT NOT NULL, user TEXT NOT NULL,
    message_id TEXT NOT NULL, route TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL,
    accepted REAL NOT NULL, ended REAL NOT NULL, waited REAL NOT NULL, served REAL NOT NULL,
    attempts INTEGER NOT NULL
);
CREATE INDEX turns_by_conversation ON turns (conversation);
CREATE INDEX turns_by_end ON turns (ended);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, conversation INTEGER NOT NULL, turn INTEGER NOT NULL,
    role TEXT NOT NULL, user TEXT NOT NULL, text TEXT NOT NULL, at REAL NOT NULL, message_id TEXT NOT NULL,
    partial INTEGER NOT NULL, handled INTEGER NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL
);
CREATE INDEX entries_by_conversation ON entries (conversation, id);
CREATE INDEX entries_by_turn ON entries (turn) WHERE turn > 0;
CREATE VIRTUAL TABLE search USING fts5 (
    text, content = 'entries', content_rowid = 'id', tokenize = "unicode61 remove_diacritics 2"
);
CREATE TABLE archive (
    id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    lines BLOB NOT NULL
);
CREATE INDEX archive_by_conversation ON archive (conversation, last);

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY, conversation TEXT NOT NULL, body TEXT NOT NULL, text TEXT NOT NULL,
    metadata TEXT NOT NULL
);
CREATE TABLE letters (
    id INTEGER PRIMARY KEY, body TEXT NOT NULL, route TEXT NOT NULL, attempts INTEGER NOT NULL,
    error TEXT NOT NULL, at REAL NOT NULL
);
"""

VERSION_2 = """
ALTER TABLE seen ADD COLUMN digest TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
CREATE INDEX conversations_of_tenant ON conversations (tenant, updated, id);
"""

MIGRATIONS = (VERSION_1, VERSION_2)
VERSION = len(MIGRATIONS)
