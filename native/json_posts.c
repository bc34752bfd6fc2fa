/* Posts as JSON objects: one indented array, or a post a line. The braces around the posts of a file are not here. */
#include "context.h"
#include "json.h"
#include "times.h"

enum { KEY_LEVEL = 2 };

static int is_indented(const struct sky_context *context)
{
    return context->settings.format == SKY_JSON;
}

/* Each word is a key with all that stands before its value, the comma first. */
void sky_prepare_json(struct sky_context *context)
{
    for (int i = 0; i < context->settings.column_count; i++) {
        struct sky_word *word = &context->keys[i];
        const char *before = is_indented(context) ? ",\n    \"" : ",\"";
        const char *behind = is_indented(context) ? "\": " : "\":";
        struct sky_out out = {word->bytes, word->bytes + SKY_WORD_BYTES};
        const char *name = sky_columns[context->settings.columns[i]].name;
        sky_put(&out, before, strlen(before));
        sky_put(&out, name, strlen(name));
        sky_put(&out, behind, strlen(behind));
        word->size = (size_t)(out.at - word->bytes);
    }
}

static int put_separator(struct sky_out *out, int indented)
{
    return indented ? sky_put(out, "\n  },\n  {", 9) : sky_put(out, "}\n{", 3);
}

/* The first key of a post has no comma. */
static int put_key(struct sky_out *out, const struct sky_word *key, int is_first)
{
    return is_first ? sky_put(out, key->bytes + 1, key->size - 1) : sky_put_word(out, key);
}

static enum sky_status put_time(struct sky_out *out, struct sky_span stored)
{
    struct sky_time time;
    unsigned char text[SKY_TIME_BYTES + 2];
    if (!sky_read_time(stored, &time)) {
        return SKY_NOT_USUAL;
    }
    text[0] = '"';
    size_t size = 1 + sky_write_time(&time, 1, text + 1);
    text[size] = '"';
    return sky_put(out, text, size + 1) ? SKY_GOING_ON : SKY_TOO_LARGE;
}

static enum sky_status put_stored_json(struct sky_out *out, struct sky_span stored, int indented)
{
    if (stored.size == 4 && memcmp(stored.at, "null", 4) == 0) {
        return sky_put(out, "null", 4) ? SKY_GOING_ON : SKY_TOO_LARGE;
    }
    return sky_put_json(out, stored, indented ? KEY_LEVEL : SKY_COMPACT);
}

/* Writes the key and the value of one column, unless it is left out. */
static enum sky_status put_member(const struct sky_row *row, int column, const struct sky_word *key, int is_first,
                                  struct sky_out *out)
{
    enum sky_kind kind = sky_columns[column].kind;
    struct sky_span text;
    if (kind == SKY_A_COUNT || kind == SKY_A_FLAG) {
        return put_key(out, key, is_first) ? sky_put_number(row, column, out) : SKY_TOO_LARGE;
    }
    enum sky_status status = sky_read_text(row, column, &text);
    if (status != SKY_GOING_ON || (sky_columns[column].left_out_when_empty && text.size == 0)) {
        return status;
    }
    if (!put_key(out, key, is_first)) {
        return SKY_TOO_LARGE;
    }
    switch (kind) {
    case SKY_A_TIME:
        return put_time(out, text);
    case SKY_A_JSON:
        return put_stored_json(out, text, is_indented(row->context));
    default:
        return sky_put_json_string(out, text);
    }
}

enum sky_status sky_render_json(const struct sky_row *row)
{
    struct sky_context *context = row->context;
    struct sky_out out = context->out;
    if (context->result.posts > 0 && !put_separator(&out, is_indented(context))) {
        return SKY_TOO_LARGE;
    }
    const unsigned char *first_key = out.at;
    for (int i = 0; i < context->settings.column_count; i++) {
        int column = context->settings.columns[i];
        enum sky_status status = put_member(row, column, &context->keys[i], out.at == first_key, &out);
        if (status != SKY_GOING_ON) {
            context->result.refused_column = column;
            return status;
        }
    }
    context->out = out;
    return SKY_GOING_ON;
}
