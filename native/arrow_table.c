/* Posts as columns, of which the program makes Arrow's.
 *
 * Each column gathers its values in buffers of its own, which are kept for the next batch. In the end they are copied
 * into the target, one behind the other: a table of 64-bit integers, then the parts of the columns, each at a multiple
 * of 64 bytes. The table has the number of rows, the number of columns, the most bytes that one row has in its texts,
 * and for each column begin and size of three parts: a byte a row that is 1 where there is a value, the lengths of
 * texts, and the values. One that is not there has size 0. So blocks are joined by joining their parts. The whole has
 * a multiple of 64 bytes, too.
 *
 * Whether a row fits is told from a bound on all of this, which is at most some kilobytes above what it takes.
 *
 * Source: docs/formats.md, "posts.parquet"; src/skyexport/formats/arrow_blocks.py reads it.
 */
#include "context.h"
#include "json.h"
#include "times.h"

enum {
    ALIGNMENT = 64,
    TABLE_NUMBERS = 3,
    PARTS_A_COLUMN = 3,
    NUMBERS_A_COLUMN = 2 * PARTS_A_COLUMN,
    VALUE_BYTES = 8, /* of counts and times; more than the length of a text and its byte of validity */
    TIMES = 3,
    MICROSECOND_DIGITS = 6,
    MOST_ORIGINALS_BYTES = TIMES * (SKY_TIME_BYTES + 20)
};

static const int time_columns[TIMES] = {SKY_CREATED_AT, SKY_INDEXED_AT, SKY_ARCHIVED_AT};
static const int count_columns[] = {SKY_LIKE_COUNT, SKY_REPOST_COUNT, SKY_REPLY_COUNT, SKY_QUOTE_COUNT};

/* What is read of a row before its columns are filled. */
struct facts {
    const struct sky_row *row;
    size_t index;               /* of the row in the batch */
    size_t text_bytes;          /* of all rows, this one so far included */
    struct sky_time time[TIMES]; /* in the order of time_columns */
};

static int is_text(int column)
{
    return sky_columns[column].kind == SKY_A_TEXT || sky_columns[column].kind == SKY_A_JSON || column == SKY_ORIGINALS;
}

static size_t table_bytes(const struct sky_settings *settings)
{
    return sizeof(int64_t) * (TABLE_NUMBERS + NUMBERS_A_COLUMN * (size_t)settings->column_count);
}

/* At least what so many rows take in the target. */
static uint64_t bound(const struct sky_settings *settings, uint64_t rows, uint64_t text_bytes)
{
    uint64_t columns = (uint64_t)settings->column_count;
    return table_bytes(settings) + (columns * PARTS_A_COLUMN + 1) * ALIGNMENT + columns * rows * VALUE_BYTES + text_bytes;
}

static int fits(const struct facts *facts, size_t more_text_bytes)
{
    const struct sky_context *context = facts->row->context;
    size_t capacity = (size_t)(context->out.end - context->target);
    return more_text_bytes <= capacity &&
           bound(&context->settings, facts->index + 1, facts->text_bytes + more_text_bytes) <= capacity;
}

static int place_of_time(int column)
{
    return column == SKY_CREATED_AT ? 0 : column == SKY_INDEXED_AT ? 1 : 2;
}

static enum sky_status read_time(struct facts *facts, int column)
{
    struct sky_span stored;
    enum sky_status status = sky_read_text(facts->row, column, &stored);
    if (status != SKY_GOING_ON) {
        return status;
    }
    return sky_read_time(stored, &facts->time[place_of_time(column)]) ? SKY_GOING_ON : SKY_NOT_USUAL;
}

/* Reads what the column of originals depends on: all times, and that all counts are integers. */
static enum sky_status read_for_originals(struct facts *facts, int *column)
{
    enum sky_status status = SKY_GOING_ON;
    for (int i = 0; i < TIMES && status == SKY_GOING_ON; i++) {
        *column = time_columns[i];
        status = read_time(facts, *column);
    }
    for (size_t i = 0; i < sizeof count_columns / sizeof *count_columns && status == SKY_GOING_ON; i++) {
        int64_t count;
        *column = count_columns[i];
        status = sky_read_number(facts->row, *column, &count);
    }
    return status;
}

static int32_t text_end(const struct sky_arrow_column *column, size_t index)
{
    int32_t end = 0;
    if (index > 0) {
        memcpy(&end, column->offsets.bytes + sizeof end * index, sizeof end);
    }
    return end;
}

/* Makes room for a text of at most so many bytes behind those of the rows before. */
static enum sky_status begin_text(struct facts *facts, struct sky_arrow_column *column, size_t most_bytes,
                                  struct sky_out *out)
{
    struct sky_context *context = facts->row->context;
    size_t begin = (size_t)text_end(column, facts->index);
    if (!sky_buffer_grow(context, &column->offsets, sizeof(int32_t) * (facts->index + 2)) ||
        !sky_buffer_grow(context, &column->validity, facts->index + 1) ||
        !sky_buffer_grow(context, &column->values, begin + most_bytes)) {
        return SKY_NO_MEMORY;
    }
    out->at = column->values.bytes + begin;
    out->end = column->values.bytes + column->values.capacity;
    return SKY_GOING_ON;
}

static enum sky_status end_text(struct facts *facts, struct sky_arrow_column *column, const struct sky_out *out,
                                int is_null)
{
    int32_t begin = text_end(column, facts->index);
    size_t end = (size_t)(out->at - column->values.bytes);
    if (!fits(facts, end - (size_t)begin)) {
        return SKY_TOO_LARGE;
    }
    int32_t offset = (int32_t)end; /* a target is never larger */
    if (facts->index == 0) {
        memset(column->offsets.bytes, 0, sizeof offset);
    }
    memcpy(column->offsets.bytes + sizeof offset * (facts->index + 1), &offset, sizeof offset);
    column->validity.bytes[facts->index] = !is_null;
    facts->text_bytes += end - (size_t)begin;
    return SKY_GOING_ON;
}

static enum sky_status add_text(struct facts *facts, int number, struct sky_arrow_column *column)
{
    struct sky_span text;
    struct sky_out out;
    enum sky_status status = sky_read_text(facts->row, number, &text);
    if (status == SKY_GOING_ON && !fits(facts, text.size)) {
        status = SKY_TOO_LARGE;
    }
    int is_json = sky_columns[number].kind == SKY_A_JSON;
    if (status == SKY_GOING_ON) {
        /* JSON may double, when all of it is U+2028. */
        status = begin_text(facts, column, is_json ? 2 * text.size : text.size, &out);
    }
    if (status == SKY_GOING_ON && text.size > 0) {
        if (is_json) {
            status = sky_put_json(&out, text, SKY_COMPACT);
        } else if (!sky_is_utf8(text)) {
            status = SKY_NOT_USUAL;
        } else if (!sky_put(&out, text.at, text.size)) {
            status = SKY_TOO_LARGE;
        }
    }
    if (status != SKY_GOING_ON) {
        return status;
    }
    return end_text(facts, column, &out, sky_columns[number].left_out_when_empty && text.size == 0);
}

/* Adds the times that lose something as timestamps, as one JSON object; null when there are none. */
static enum sky_status add_originals(struct facts *facts, struct sky_arrow_column *column)
{
    struct sky_out out;
    int count = 0;
    int put = 1;
    enum sky_status status = begin_text(facts, column, MOST_ORIGINALS_BYTES, &out);
    if (status != SKY_GOING_ON) {
        return status;
    }
    for (int i = 0; i < TIMES; i++) {
        const struct sky_time *time = &facts->time[i];
        const char *name = sky_columns[time_columns[i]].name;
        unsigned char text[SKY_TIME_BYTES];
        if (time->fraction_digits <= MICROSECOND_DIGITS && time->offset_minutes == 0) {
            continue;
        }
        put = put && sky_put(&out, count++ == 0 ? "{\"" : ",\"", 2) && sky_put(&out, name, strlen(name)) &&
              sky_put(&out, "\":\"", 3) && sky_put(&out, text, sky_write_time(time, 1, text)) &&
              sky_put_byte(&out, '"');
    }
    if (!put || (count > 0 && !sky_put_byte(&out, '}'))) {
        return SKY_TOO_LARGE;
    }
    return end_text(facts, column, &out, count == 0);
}

static enum sky_status add_number(struct facts *facts, struct sky_arrow_column *column, int64_t number)
{
    size_t begin = sizeof number * facts->index;
    if (!sky_buffer_grow(facts->row->context, &column->values, begin + sizeof number)) {
        return SKY_NO_MEMORY;
    }
    memcpy(column->values.bytes + begin, &number, sizeof number);
    return SKY_GOING_ON;
}

static enum sky_status add_flag(struct facts *facts, struct sky_arrow_column *column, int flag)
{
    if (!sky_buffer_grow(facts->row->context, &column->values, facts->index + 1)) {
        return SKY_NO_MEMORY;
    }
    column->values.bytes[facts->index] = flag != 0;
    return SKY_GOING_ON;
}

static enum sky_status add_time(struct facts *facts, int number, struct sky_arrow_column *column)
{
    int64_t microseconds;
    /* Else all times were read for that. */
    if (!facts->row->context->has_originals) {
        enum sky_status status = read_time(facts, number);
        if (status != SKY_GOING_ON) {
            return status;
        }
    }
    if (!sky_microseconds(&facts->time[place_of_time(number)], &microseconds)) {
        return SKY_NOT_USUAL;
    }
    return add_number(facts, column, microseconds);
}

static enum sky_status add_value(struct facts *facts, int number, struct sky_arrow_column *column)
{
    int64_t count;
    enum sky_status status;
    if (number == SKY_ORIGINALS) {
        return add_originals(facts, column);
    }
    switch (sky_columns[number].kind) {
    case SKY_A_TIME:
        return add_time(facts, number, column);
    case SKY_A_COUNT:
        status = sky_read_number(facts->row, number, &count);
        return status == SKY_GOING_ON ? add_number(facts, column, count) : status;
    case SKY_A_FLAG:
        status = sky_read_number(facts->row, number, &count);
        return status == SKY_GOING_ON ? add_flag(facts, column, count != 0) : status;
    default:
        return add_text(facts, number, column);
    }
}

enum sky_status sky_render_arrow(const struct sky_row *row)
{
    struct sky_context *context = row->context;
    struct facts facts;
    int column = SKY_URI;
    facts.row = row;
    facts.index = (size_t)context->result.posts;
    if (facts.index == 0) {
        context->arrow_text_bytes = context->arrow_most_text_bytes = 0;
    }
    facts.text_bytes = context->arrow_text_bytes;
    enum sky_status status = fits(&facts, 0) ? SKY_GOING_ON : SKY_TOO_LARGE;
    if (status == SKY_GOING_ON && context->has_originals) {
        status = read_for_originals(&facts, &column);
    }
    for (int i = 0; i < context->settings.column_count && status == SKY_GOING_ON; i++) {
        column = context->settings.columns[i];
        status = add_value(&facts, column, &context->arrow[i]);
    }
    if (status == SKY_GOING_ON) {
        size_t text_bytes = facts.text_bytes - context->arrow_text_bytes;
        context->arrow_text_bytes = facts.text_bytes;
        if (text_bytes > context->arrow_most_text_bytes) {
            context->arrow_most_text_bytes = text_bytes;
        }
    } else {
        context->result.refused_column = column;
    }
    return status;
}

/* Notes in the table a part that begins at the next multiple of 64 bytes. Gives its begin, cleared up to there. */
static size_t begin_part(unsigned char *target, size_t used, size_t size, int64_t *numbers)
{
    size_t begin = (used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memset(target + used, 0, begin - used);
    numbers[0] = (int64_t)begin;
    numbers[1] = (int64_t)size;
    return begin;
}

static size_t place_bytes(unsigned char *target, size_t used, const unsigned char *bytes, size_t size, int64_t *numbers)
{
    if (size == 0) {
        return used;
    }
    size_t begin = begin_part(target, used, size, numbers);
    memcpy(target + begin, bytes, size);
    return begin + size;
}

static size_t place_lengths(unsigned char *target, size_t used, const struct sky_arrow_column *column, size_t rows,
                            int64_t *numbers)
{
    size_t begin = begin_part(target, used, sizeof(int32_t) * rows, numbers);
    for (size_t row = 0; row < rows; row++) {
        int32_t length = text_end(column, row + 1) - text_end(column, row);
        memcpy(target + begin + sizeof length * row, &length, sizeof length);
    }
    return begin + sizeof(int32_t) * rows;
}

static size_t place_column(struct sky_context *context, int i, size_t rows, size_t used)
{
    const struct sky_arrow_column *column = &context->arrow[i];
    int number = context->settings.columns[i];
    int64_t numbers[NUMBERS_A_COLUMN] = {0};
    unsigned char *target = context->target;
    if (is_text(number)) {
        if (memchr(column->validity.bytes, 0, rows) != NULL) {
            used = place_bytes(target, used, column->validity.bytes, rows, numbers);
        }
        used = place_lengths(target, used, column, rows, numbers + 2);
        used = place_bytes(target, used, column->values.bytes, (size_t)text_end(column, rows), numbers + 4);
    } else {
        size_t size = sky_columns[number].kind == SKY_A_FLAG ? 1 : sizeof(int64_t);
        used = place_bytes(target, used, column->values.bytes, size * rows, numbers + 4);
    }
    memcpy(target + sizeof(int64_t) * (TABLE_NUMBERS + NUMBERS_A_COLUMN * (size_t)i), numbers, sizeof numbers);
    return used;
}

size_t sky_finish_arrow(struct sky_context *context)
{
    size_t rows = (size_t)context->result.posts;
    int64_t numbers[TABLE_NUMBERS] = {context->result.posts, context->settings.column_count,
                                      (int64_t)context->arrow_most_text_bytes};
    size_t used = table_bytes(&context->settings);
    if (rows == 0) {
        return 0; /* nothing was found to have room */
    }
    memcpy(context->target, numbers, sizeof numbers);
    for (int i = 0; i < context->settings.column_count; i++) {
        used = place_column(context, i, rows, used);
    }
    int64_t end[2];
    return begin_part(context->target, used, 0, end);
}

void sky_free_arrow(struct sky_context *context)
{
    for (int i = 0; i < SKY_MAX_CHOSEN; i++) {
        context->sqlite->free(context->arrow[i].validity.bytes);
        context->sqlite->free(context->arrow[i].offsets.bytes);
        context->sqlite->free(context->arrow[i].values.bytes);
    }
}
