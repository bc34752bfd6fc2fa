/* The interface of the renderer to the program that loads it, which calls it through ctypes.
 *
 * A context belongs to one connection and is as long-lived. None of these functions may be called while a statement
 * of that connection runs, or after the connection was closed.
 */
#ifndef SKYEXPORT_H
#define SKYEXPORT_H

#include <stdint.h>

#if defined(_WIN32)
#define SKY_EXPORTED __declspec(dllexport)
#else
#define SKY_EXPORTED __attribute__((visibility("default")))
#endif

/* The columns of `posts` in the order in which the aggregates take them, behind the row id. */
enum sky_column {
    SKY_URI,
    SKY_CID,
    SKY_DID,
    SKY_TEXT,
    SKY_CREATED_AT,
    SKY_INDEXED_AT,
    SKY_HAS_MEDIA,
    SKY_LIKE_COUNT,
    SKY_REPOST_COUNT,
    SKY_REPLY_COUNT,
    SKY_QUOTE_COUNT,
    SKY_IS_REPLY,
    SKY_REPLY_PARENT,
    SKY_EMBED_TYPE,
    SKY_EMBED_DATA,
    SKY_LABELS,
    SKY_ARCHIVED_AT,
    SKY_STORED_COLUMNS,
    SKY_MEDIA_FILES = SKY_STORED_COLUMNS, /* of CSV: made from has_media and embed_data */
    SKY_ORIGINALS,                        /* of Arrow: what other columns cannot hold */
    SKY_COLUMNS
};

enum { SKY_MAX_CHOSEN = 18 };

enum sky_format { SKY_NO_FORMAT, SKY_JSON, SKY_JSON_LINES, SKY_CSV, SKY_ARROW, SKY_ROW_IDS };

/* How to render; see docs/formats.md. */
struct sky_settings {
    int32_t format;       /* enum sky_format */
    int32_t column_count; /* 1 to SKY_MAX_CHOSEN */
    int32_t columns[SKY_MAX_CHOSEN];
    int32_t delimiter; /* of CSV: one ASCII character */
    int32_t csv_safe;  /* of CSV: whether cells that look like formulas get an apostrophe */
};

enum sky_status {
    SKY_NO_TARGET,  /* nothing can be rendered */
    SKY_GOING_ON,   /* a target is set, and rows may come */
    SKY_DONE,       /* every row was rendered */
    SKY_NOT_USUAL,  /* a row has a value that only the reference renderer takes */
    SKY_TOO_LARGE,  /* a row does not fit into what is left of the target */
    SKY_NO_MEMORY,
    SKY_INTERRUPTED /* SQLite ended the statement with an error of its own */
};

/* How far a statement came. The target has the posts before the refused one, complete. */
struct sky_result {
    int64_t posts;          /* rendered */
    int64_t bytes;          /* of the target that they take */
    int64_t refused_row_id; /* 0 when there is none */
    int64_t formulas;       /* cells of the rendered posts that a spreadsheet may take for a formula */
    int64_t ties;           /* listed row ids whose post is of the same instant as the one before */
    int32_t status;         /* enum sky_status */
    int32_t refused_column; /* whose value was refused; -1 when there is none */
};

struct sky_context;

/* Choose how to render. 1, or 0 when the settings make no sense: then they stay as they were. */
SKY_EXPORTED int skyexport_configure(struct sky_context *context, const struct sky_settings *settings);

/* Where the next statement writes, and how much at most. It is forgotten when the statement is done or refuses a row.
 * No address takes the target away. 1, or 0 when the context is not configured or the target larger than 2^31 - 1
 * bytes. */
SKY_EXPORTED int skyexport_set_target(struct sky_context *context, void *address, uint64_t capacity);

/* Complete the rendered posts of a statement that SQLite ended with an error of its own: it does not call the aggregate
 * again then. Nothing changes after a statement that is done or refused a row. */
SKY_EXPORTED void skyexport_finish(struct sky_context *context);

/* Part of the context: it changes with each statement, and stays where it is. */
SKY_EXPORTED const struct sky_result *skyexport_result(const struct sky_context *context);

/* The SHA-256 of the sources that this binary was built from, in hexadecimal digits. */
SKY_EXPORTED const char *skyexport_sources(void);

#endif
