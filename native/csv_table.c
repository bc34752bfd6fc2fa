/* Posts as the records of a CSV file. */
#include "context.h"
#include "media_names.h"
#include "times.h"

/* Whether a cell begins with a character of the property White_Space. */
static int begins_with_space(struct sky_span cell)
{
    const unsigned char *at = cell.at;
    if (cell.size == 0) {
        return 0;
    }
    if (at[0] < 0x80) {
        return at[0] == ' ' || (at[0] >= 0x09 && at[0] <= 0x0d);
    }
    if (at[0] == 0xc2) {
        return cell.size >= 2 && (at[1] == 0x85 || at[1] == 0xa0);
    }
    if (cell.size < 3) {
        return 0;
    }
    if (at[0] == 0xe2 && at[1] == 0x80) {
        return (at[2] >= 0x80 && at[2] <= 0x8a) || at[2] == 0xa8 || at[2] == 0xa9 || at[2] == 0xaf;
    }
    return memcmp(at, "\xe1\x9a\x80", 3) == 0 || memcmp(at, "\xe2\x81\x9f", 3) == 0 ||
           memcmp(at, "\xe3\x80\x80", 3) == 0;
}

/* Size of the white space, control character or character without width at *at*; 0 when there is another one. */
static size_t unseen_size(const unsigned char *at, size_t size)
{
    if (size == 0) {
        return 0;
    }
    if (at[0] < 0x80) {
        return at[0] <= 0x20 || at[0] == 0x7f;
    }
    if (size < 2) {
        return 0;
    }
    if (at[0] == 0xc2) {
        return (at[1] >= 0x80 && at[1] <= 0xa0) || at[1] == 0xad ? 2 : 0;
    }
    if (at[0] == 0xd8) {
        return at[1] == 0x9c ? 2 : 0; /* U+061C */
    }
    if (size < 3) {
        return 0;
    }
    if (at[0] == 0xe2 && at[1] == 0x80) { /* U+2000 to U+200F, U+2028 to U+202F */
        return (at[2] >= 0x80 && at[2] <= 0x8f) || (at[2] >= 0xa8 && at[2] <= 0xaf) ? 3 : 0;
    }
    if (at[0] == 0xe2 && at[1] == 0x81) { /* U+205F to U+206F */
        return at[2] >= 0x9f && at[2] <= 0xaf ? 3 : 0;
    }
    return memcmp(at, "\xe1\x9a\x80", 3) == 0 || memcmp(at, "\xe1\xa0\x8e", 3) == 0 ||
                   memcmp(at, "\xe3\x80\x80", 3) == 0 || memcmp(at, "\xef\xbb\xbf", 3) == 0
               ? 3
               : 0;
}

/* Whether a spreadsheet may read a cell that begins so as a formula: by a sign, full-width signs too, behind characters
 * that are not seen; or by a break that it may drop. src/skyexport/formats/formulas.py has the list and its sources. */
static int begins_formula(const unsigned char *at, size_t size)
{
    if (size > 0 && (at[0] == '\t' || at[0] == '\r' || at[0] == '\n' || at[0] == 0)) {
        return 1;
    }
    for (size_t unseen = unseen_size(at, size); unseen > 0; unseen = unseen_size(at, size)) {
        at += unseen;
        size -= unseen;
    }
    if (size == 0) {
        return 0;
    }
    if (at[0] < 0x80) {
        return at[0] == '=' || at[0] == '+' || at[0] == '-' || at[0] == '@';
    }
    return size >= 3 && at[0] == 0xef && at[1] == 0xbc &&
           (at[2] == 0x9d || at[2] == 0x8b || at[2] == 0x8d || at[2] == 0xa0);
}

/* Whether a cell gets an apostrophe to be safe: also one that looks as if it had got one. */
static int must_be_made_safe(struct sky_span cell)
{
    size_t apostrophes = 0;
    while (apostrophes < cell.size && cell.at[apostrophes] == '\'') {
        apostrophes++;
    }
    return begins_formula(cell.at + apostrophes, cell.size - apostrophes);
}

static int is_special(unsigned char byte, unsigned char delimiter)
{
    return byte == '"' || byte == '\n' || byte == '\r' || byte == delimiter;
}

/* Whether a cell has in it what only stands between quotes. */
static int has_special(struct sky_span cell, unsigned char delimiter)
{
    const unsigned char *at = cell.at;
    const unsigned char *end = at + cell.size;
    while (end - at >= 8) {
        uint64_t eight = sky_load(at);
        if (sky_zeros(eight ^ SKY_EACH('"')) || sky_zeros(eight ^ SKY_EACH('\n')) ||
            sky_zeros(eight ^ SKY_EACH('\r')) || sky_zeros(eight ^ SKY_EACH(delimiter))) {
            return 1;
        }
        at += 8;
    }
    while (at < end) {
        if (is_special(*at++, delimiter)) {
            return 1;
        }
    }
    return 0;
}

static int put_quoted(struct sky_out *out, struct sky_span cell, int with_apostrophe)
{
    const unsigned char *at = cell.at;
    const unsigned char *end = at + cell.size;
    if (!sky_put_byte(out, '"') || (with_apostrophe && !sky_put_byte(out, '\''))) {
        return 0;
    }
    for (;;) {
        const unsigned char *quote = memchr(at, '"', (size_t)(end - at));
        if (quote == NULL) {
            return sky_put(out, at, (size_t)(end - at)) && sky_put_byte(out, '"');
        }
        if (!sky_put(out, at, (size_t)(quote + 1 - at)) || !sky_put_byte(out, '"')) {
            return 0;
        }
        at = quote + 1;
    }
}

/* Writes a cell with quotes and apostrophe, where it needs them, and counts it when it looks like a formula. */
static enum sky_status put_cell(const struct sky_settings *settings, struct sky_out *out, struct sky_span cell,
                                int64_t *formulas)
{
    int safe = settings->csv_safe && must_be_made_safe(cell);
    int quoted = has_special(cell, (unsigned char)settings->delimiter);
    *formulas += begins_formula(cell.at, cell.size);
    if (!quoted && !safe) {
        quoted = begins_with_space(cell) || (cell.size == 2 && memcmp(cell.at, "\\.", 2) == 0) ||
                 (cell.size == 0 && settings->column_count == 1);
    }
    int fits;
    if (quoted) {
        fits = put_quoted(out, cell, safe);
    } else {
        fits = (!safe || sky_put_byte(out, '\'')) && sky_put(out, cell.at, cell.size);
    }
    return fits ? SKY_GOING_ON : SKY_TOO_LARGE;
}

static enum sky_status put_media(const struct sky_row *row, struct sky_out *out, int64_t *formulas)
{
    struct sky_buffer *scratch = &row->context->scratch;
    struct sky_span embed;
    struct sky_span cell = {(const unsigned char *)"", 0};
    int64_t has_media;
    enum sky_status status = sky_read_number(row, SKY_HAS_MEDIA, &has_media);
    if (status == SKY_GOING_ON && has_media != 0) {
        status = sky_read_text(row, SKY_EMBED_DATA, &embed);
        if (status == SKY_GOING_ON && embed.size > 0) {
            if (!sky_buffer_grow(row->context, scratch, embed.size)) {
                return SKY_NO_MEMORY;
            }
            struct sky_out names = {scratch->bytes, scratch->bytes + scratch->capacity};
            status = sky_put_media_names(&names, embed);
            cell.at = scratch->bytes;
            cell.size = (size_t)(names.at - scratch->bytes);
        }
    }
    return status == SKY_GOING_ON ? put_cell(&row->context->settings, out, cell, formulas) : status;
}

static enum sky_status put_time(const struct sky_row *row, int column, struct sky_out *out)
{
    struct sky_span stored;
    struct sky_time time;
    unsigned char text[SKY_TIME_BYTES];
    enum sky_status status = sky_read_text(row, column, &stored);
    if (status != SKY_GOING_ON) {
        return status;
    }
    if (!sky_read_time(stored, &time)) {
        return SKY_NOT_USUAL;
    }
    return sky_put(out, text, sky_write_time(&time, 0, text)) ? SKY_GOING_ON : SKY_TOO_LARGE;
}

static enum sky_status put_field(const struct sky_row *row, int column, struct sky_out *out, int64_t *formulas)
{
    struct sky_span text;
    enum sky_status status;
    switch (sky_columns[column].kind) {
    case SKY_MADE:
        return put_media(row, out, formulas);
    case SKY_A_TIME:
        return put_time(row, column, out);
    case SKY_A_COUNT:
    case SKY_A_FLAG:
        return sky_put_number(row, column, out);
    default:
        status = sky_read_text(row, column, &text);
        return status == SKY_GOING_ON ? put_cell(&row->context->settings, out, text, formulas) : status;
    }
}

enum sky_status sky_render_csv(const struct sky_row *row)
{
    struct sky_context *context = row->context;
    const struct sky_settings *settings = &context->settings;
    struct sky_out out = context->out;
    int64_t formulas = 0;
    if (context->result.posts > 0 && !sky_put_byte(&out, '\n')) {
        return SKY_TOO_LARGE;
    }
    for (int i = 0; i < settings->column_count; i++) {
        int column = settings->columns[i];
        enum sky_status status = SKY_TOO_LARGE;
        if (i == 0 || sky_put_byte(&out, (unsigned char)settings->delimiter)) {
            status = put_field(row, column, &out, &formulas);
        }
        if (status != SKY_GOING_ON) {
            context->result.refused_column = column;
            return status;
        }
    }
    context->out = out;
    context->result.formulas += formulas;
    return SKY_GOING_ON;
}
