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

enum sky_status sky_list_row_id(const struct sky_row *row)
{
    struct sky_context *context = row->context;
    struct sky_buffer *last = &context->scratch;
    struct sky_span instant;
    if (row->sqlite->value_type(row->values[0]) != SKY_SQLITE_TEXT) {
        return SKY_NOT_USUAL;
    }
    enum sky_status status = sky_read_text(row, 0, &instant);
    if (status != SKY_GOING_ON) {
        return status;
    }
    if (!sky_buffer_grow(context, last, instant.size)) {
        return SKY_NO_MEMORY;
    }
    int64_t row_id = row->sqlite->value_int64(row->values[-1]);
    int64_t place = context->result.posts;
    int is_tied =
        place > 0 && instant.size == context->last_instant && memcmp(last->bytes, instant.at, instant.size) == 0;
    struct sky_out out = context->out;
    if (!sky_put(&out, &row_id, sizeof row_id) || (is_tied && !sky_put_last(&out, &place, sizeof place))) {
        return SKY_TOO_LARGE;
    }
    context->out = out;
    context->result.ties += is_tied;
    memcpy(last->bytes, instant.at, instant.size);
    context->last_instant = instant.size;
    return SKY_GOING_ON;
}
