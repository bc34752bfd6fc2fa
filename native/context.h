/* What belongs to one connection, and what the formats share. */
#ifndef SKYEXPORT_CONTEXT_H
#define SKYEXPORT_CONTEXT_H

#include "buffer.h"
#include "skyexport.h"
#include "sqlite_api.h"
#include "text.h"

/* What the values of a column are. */
enum sky_kind { SKY_A_TEXT, SKY_A_TIME, SKY_A_COUNT, SKY_A_FLAG, SKY_A_JSON, SKY_MADE };

struct sky_column_facts {
    const char *name;
    enum sky_kind kind;
    int left_out_when_empty;
};

extern const struct sky_column_facts sky_columns[SKY_COLUMNS];

/* The buffers of one Arrow column: all of them are used for texts, else the last. */
struct sky_arrow_column {
    struct sky_buffer validity; /* of texts: 1 for each row that has one, 0 for null */
    struct sky_buffer offsets;  /* of texts: where each begins, and where the last one ends */
    struct sky_buffer values;
};

struct sky_context {
    struct sky_result result; /* first, as is *resize*: tests look there */
    void *(*resize)(void *memory, unsigned long long size); /* sqlite3_realloc64 */
    const struct sky_sqlite_api *sqlite;
    int references; /* functions of the connection that use it */
    struct sky_settings settings;
    unsigned char *target;
    struct sky_out out;                    /* what is left of the target */
    struct sky_word keys[SKY_MAX_CHOSEN]; /* of JSON: all that stands before each value */
    struct sky_buffer scratch;
    size_t last_instant; /* of row ids: the size of the last created_at, which is in *scratch* */
    struct sky_arrow_column arrow[SKY_MAX_CHOSEN];
    size_t arrow_text_bytes;      /* of the rendered rows, in all columns */
    size_t arrow_most_text_bytes; /* of one of them */
    int has_originals;       /* whether that column is chosen */
};

/* One row of `posts`, as SQLite passes it. */
struct sky_row {
    const struct sky_sqlite_api *sqlite;
    struct sky_context *context;
    struct sqlite3_value **values;
};

/* Reads a text, a time or JSON as its bytes; NULL is empty. Not usual: a number. */
enum sky_status sky_read_text(const struct sky_row *row, int column, struct sky_span *text);

/* Reads a count or a flag; NULL is 0. Not usual: whatever else is no integer. */
enum sky_status sky_read_number(const struct sky_row *row, int column, int64_t *number);

/* Writes a count in digits, a flag as true or false. */
enum sky_status sky_put_number(const struct sky_row *row, int column, struct sky_out *out);

/* The formats. Each function of this kind renders a row into what is left of the target; a row that it refuses leaves
 * that as it was. */
typedef enum sky_status sky_render(const struct sky_row *row);

sky_render sky_render_json;
sky_render sky_render_csv;
sky_render sky_render_arrow;

/* No format: puts the row id of each row, an int64. Where a row has the same created_at as the row before, which is the
 * only value of a row, its place in the list is put too, behind the earlier ones from the end of the target backwards. */
sky_render sky_list_row_id;

/* Makes the keys of JSON, when the settings are known. */
void sky_prepare_json(struct sky_context *context);

/* Puts the columns of the rendered rows into the target, where there is room for them, and says how many bytes that
 * takes. */
size_t sky_finish_arrow(struct sky_context *context);

void sky_free_arrow(struct sky_context *context);

#endif
