/* The columns, and the values of a row. */
#include "context.h"

const struct sky_column_facts sky_columns[SKY_COLUMNS] = {
    [SKY_URI] = {"uri", SKY_A_TEXT, 0},
    [SKY_CID] = {"cid", SKY_A_TEXT, 0},
    [SKY_DID] = {"did", SKY_A_TEXT, 0},
    [SKY_TEXT] = {"text", SKY_A_TEXT, 0},
    [SKY_CREATED_AT] = {"created_at", SKY_A_TIME, 0},
    [SKY_INDEXED_AT] = {"indexed_at", SKY_A_TIME, 0},
    [SKY_HAS_MEDIA] = {"has_media", SKY_A_FLAG, 0},
    [SKY_LIKE_COUNT] = {"like_count", SKY_A_COUNT, 0},
    [SKY_REPOST_COUNT] = {"repost_count", SKY_A_COUNT, 0},
    [SKY_REPLY_COUNT] = {"reply_count", SKY_A_COUNT, 0},
    [SKY_QUOTE_COUNT] = {"quote_count", SKY_A_COUNT, 0},
    [SKY_IS_REPLY] = {"is_reply", SKY_A_FLAG, 0},
    [SKY_REPLY_PARENT] = {"reply_parent", SKY_A_TEXT, 1},
    [SKY_EMBED_TYPE] = {"embed_type", SKY_A_TEXT, 1},
    [SKY_EMBED_DATA] = {"embed_data", SKY_A_JSON, 1},
    [SKY_LABELS] = {"labels", SKY_A_JSON, 1},
    [SKY_ARCHIVED_AT] = {"archived_at", SKY_A_TIME, 0},
    [SKY_MEDIA_FILES] = {"media_files", SKY_MADE, 0},
    [SKY_ORIGINALS] = {"originals", SKY_MADE, 1},
};

enum sky_status sky_read_text(const struct sky_row *row, int column, struct sky_span *text)
{
    struct sqlite3_value *value = row->values[column];
    int type = row->sqlite->value_type(value);
    text->at = (const unsigned char *)"";
    text->size = 0;
    if (type == SKY_SQLITE_NULL) {
        return SKY_GOING_ON;
    }
    if (type != SKY_SQLITE_TEXT && type != SKY_SQLITE_BLOB) {
        return SKY_NOT_USUAL;
    }
    /* In this order. Of a text, this gives the stored bytes without a copy, which an end of NUL would need. */
    const unsigned char *bytes = row->sqlite->value_blob(value);
    int size = row->sqlite->value_bytes(value);
    if (size > 0) {
        if (bytes == NULL) {
            return SKY_NO_MEMORY;
        }
        text->at = bytes;
        text->size = (size_t)size;
    }
    return SKY_GOING_ON;
}

enum sky_status sky_read_number(const struct sky_row *row, int column, int64_t *number)
{
    struct sqlite3_value *value = row->values[column];
    int type = row->sqlite->value_type(value);
    *number = type == SKY_SQLITE_INTEGER ? row->sqlite->value_int64(value) : 0;
    return type == SKY_SQLITE_INTEGER || type == SKY_SQLITE_NULL ? SKY_GOING_ON : SKY_NOT_USUAL;
}

enum sky_status sky_put_number(const struct sky_row *row, int column, struct sky_out *out)
{
    int64_t number;
    enum sky_status status = sky_read_number(row, column, &number);
    int fits;
    if (status != SKY_GOING_ON) {
        return status;
    }
    if (sky_columns[column].kind == SKY_A_COUNT) {
        fits = sky_put_integer(out, number);
    } else {
        fits = number != 0 ? sky_put(out, "true", 4) : sky_put(out, "false", 5);
    }
    return fits ? SKY_GOING_ON : SKY_TOO_LARGE;
}
