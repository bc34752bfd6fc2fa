"""The tables of an archive, in the third version of bskyarchive's schema.

Source: https://github.com/shindakun/bskyarchive, internal/storage.
"""

from __future__ import annotations

__all__ = [
    "CREATED_AT_INDEX",
    "EXPORTS_TABLE",
    "FULL_TEXT",
    "FULL_TEXT_TABLE",
    "IMPORTED_ID",
    "INDEXES",
    "QUOTE_COUNT_COLUMN",
    "SCHEMA_VERSION",
    "TABLES",
    "TRIGGERS",
]

SCHEMA_VERSION = 3

IMPORTED_ID = int.from_bytes(b"skyx")
"""The application id of an archive that `skyexport import` made; those of bskyarchive have none."""

QUOTE_COUNT_COLUMN = "  quote_count integer default 0,\n"
"""The column of `posts` that the first version lacks."""

TABLES = f"""
create table schema_version (
  version integer primary key,
  applied_at timestamp default current_timestamp
);
create table sessions (
  id text primary key,
  did text not null unique,
  handle text not null,
  display_name text,
  access_token text not null,
  refresh_token text not null,
  expires_at timestamp not null,
  created_at timestamp default current_timestamp
);
create table posts (
  uri text primary key,
  cid text not null,
  did text not null,
  text text,
  created_at timestamp not null,
  indexed_at timestamp not null,
  has_media boolean default 0,
  like_count integer default 0,
  repost_count integer default 0,
  reply_count integer default 0,
{QUOTE_COUNT_COLUMN}  is_reply boolean default 0,
  reply_parent text,
  embed_type text,
  embed_data json,
  labels json,
  archived_at timestamp default current_timestamp
);
create table profiles (
  did text not null,
  handle text not null,
  display_name text,
  description text,
  avatar_url text,
  banner_url text,
  followers_count integer default 0,
  follows_count integer default 0,
  posts_count integer default 0,
  snapshot_at timestamp default current_timestamp,
  primary key (did, snapshot_at)
);
create table media (
  hash text primary key,
  post_uri text not null references posts(uri) on delete cascade,
  mime_type text not null,
  file_path text not null,
  size_bytes integer not null,
  width integer,
  height integer,
  alt_text text,
  created_at timestamp default current_timestamp
);
create table operations (
  id text primary key,
  did text not null references sessions(did) on delete cascade,
  type text not null,
  status text not null,
  progress integer default 0,
  total integer default 0,
  error text,
  started_at timestamp default current_timestamp,
  completed_at timestamp
);
"""

EXPORTS_TABLE = """
create table exports (
  id text primary key,
  did text not null,
  format text not null,
  created_at integer not null,
  directory_path text not null,
  post_count integer not null check (post_count >= 0),
  media_count integer default 0 check (media_count >= 0),
  size_bytes integer default 0 check (size_bytes >= 0),
  date_range_start integer,
  date_range_end integer,
  manifest_path text
);
create index idx_exports_did on exports(did);
create index idx_exports_created_at on exports(created_at desc);
create index idx_exports_did_created on exports(did, created_at desc);
"""

INDEXES = """
create index idx_posts_did on posts(did);
create index idx_posts_has_media on posts(has_media) where has_media = 1;
create index idx_posts_is_reply on posts(is_reply) where is_reply = 1;
create index idx_profiles_did on profiles(did);
create index idx_profiles_snapshot_at on profiles(snapshot_at desc);
create index idx_media_post_uri on media(post_uri);
create index idx_operations_did_status on operations(did, status);
"""

CREATED_AT_INDEX = "create index idx_posts_created_at on posts(created_at desc);"

TRIGGERS = """
create trigger posts_ai after insert on posts begin
  insert into posts_fts(rowid, uri, text) values (new.rowid, new.uri, new.text);
end;
create trigger posts_ad after delete on posts begin
  delete from posts_fts where rowid = old.rowid;
end;
create trigger posts_au after update on posts begin
  update posts_fts set text = new.text where rowid = old.rowid;
end;
"""
"""They keep the index of words in step with the posts, as bskyarchive writes them."""

FULL_TEXT_TABLE = """
create virtual table posts_fts using fts5(uri unindexed, text, content='posts', content_rowid='rowid');
"""

FULL_TEXT = f"""
{FULL_TEXT_TABLE}
insert into posts_fts(posts_fts) values ('rebuild');
{TRIGGERS}"""
