/* The native renderer: a SQLite extension that turns rows of `posts` into the bytes of a batch.
 *
 * The flow. A query gives the posts of a batch in export order to one of three aggregates: sky_render_json (JSON and
 * JSON Lines), sky_render_csv, sky_render_arrow, each of (row id, the 17 columns). SQLite calls `step` for each row.
 * That calls the function of the format, which writes the post into the target: memory that the program has set
 * before, usually the slot in which the batch travels to the writer. When the rows end, `final` gives their number.
 *
 * Before, sky_list_row_ids takes (row id, created_at) in the order of the index, and finds posts of one instant: only
 * those must be sorted to have the export order.
 *
 * The context. Loading the extension makes one for the connection. It has the settings, the target, how far the
 * statement came, and a few buffers that are reused. The program gets its address once, from the SQL function
 * sky_context(), and then calls the functions of skyexport.h. So no address is ever part of a query, and without a
 * target the aggregates do nothing but fail. All of these functions are DIRECTONLY: nothing that a database has in
 * it, a view or a trigger, can call them. The context goes away with the last function, when the connection closes.
 *
 * Refusals. The renderer takes what is usual and refuses all else; it never decides what is rare. When a row is
 * refused, the statement ends with an error, the posts before it are in the target, and the result says which row it
 * was and why: a value is not usual, the row does not fit into what is left of the target, or there is no memory. The
 * program renders that post in another way, and goes on behind it. SQLite may end a statement itself, for a value that
 * is too large for it or when it is interrupted: the posts before are complete once `skyexport_finish` was called.
 *
 * Bounds. Every write goes through functions named sky_put…, which write only where there is room, or into a buffer
 * that `sky_buffer_grow` has made large enough. A target has the size that it has: a post that does not fit is
 * refused. Nothing is read beyond the size that SQLite gives for a value.
 *
 * Text must be in UTF-8 in the database: the program refuses other archives before.
 *
 * Where to find what: sqlite_api.h SQLite's functions; skyexport.h the interface; buffer.h and text.c bytes, UTF-8 and
 * JSON strings; json.c reading and writing JSON; times.c; media_names.c; rows.c values of a row, and the list of row ids; json_posts.c,
 * csv_table.c and arrow_table.c the formats.
 */
#include "context.h"

#ifndef SKY_FIRST_BUFFER_BYTES
#define SKY_FIRST_BUFFER_BYTES 65536 /* tests have fewer, so that buffers grow */
#endif

#ifndef SKYEXPORT_SOURCES
#define SKYEXPORT_SOURCES unknown
#endif
#define SKY_QUOTED(name) #name
#define SKY_SPELT(name) SKY_QUOTED(name)

enum { LARGEST_TARGET_BYTES = INT32_MAX, ARGUMENTS = 1 + SKY_STORED_COLUMNS };

/* SQLite's functions. SQLite passes no other way to them to the functions below, so this is the one global: written
 * when the extension is loaded first, and always the same afterwards. */
static const struct sky_sqlite_api *sqlite;

const char *skyexport_sources(void)
{
    return SKY_SPELT(SKYEXPORT_SOURCES);
}

int sky_buffer_grow(struct sky_context *context, struct sky_buffer *buffer, size_t capacity)
{
    if (buffer->bytes != NULL && capacity <= buffer->capacity) {
        return 1;
    }
    size_t larger = buffer->bytes == NULL ? SKY_FIRST_BUFFER_BYTES : buffer->capacity;
    while (larger < capacity) {
        if (larger > SIZE_MAX / 2) {
            return 0;
        }
        larger *= 2;
    }
    unsigned char *bytes = context->resize(buffer->bytes, larger);
    if (bytes == NULL) {
        return 0;
    }
    buffer->bytes = bytes;
    buffer->capacity = larger;
    return 1;
}

/* --- The interface to the program ------------------------------------------------------------------------------- */

static int takes_column(int32_t format, int32_t column)
{
    return (column >= 0 && column < SKY_STORED_COLUMNS && (format != SKY_CSV || sky_columns[column].kind != SKY_A_JSON)) ||
           (format == SKY_CSV && column == SKY_MEDIA_FILES) || (format == SKY_ARROW && column == SKY_ORIGINALS);
}

static int makes_sense(const struct sky_settings *settings)
{
    if (settings->format < SKY_JSON || settings->format > SKY_ROW_IDS || settings->column_count < 1 ||
        settings->column_count > SKY_MAX_CHOSEN) {
        return 0;
    }
    for (int i = 0; i < settings->column_count; i++) {
        if (!takes_column(settings->format, settings->columns[i])) {
            return 0;
        }
    }
    int32_t delimiter = settings->delimiter;
    return settings->format != SKY_CSV || delimiter == ',' || delimiter == ';' || delimiter == '|' || delimiter == '\t';
}

static void forget_target(struct sky_context *context, enum sky_status status)
{
    context->target = context->out.at = context->out.end = NULL;
    context->result.status = (int32_t)status;
}

/* The statement is over: what was rendered is complete. */
static void finish(struct sky_context *context, enum sky_status status)
{
    if (context->settings.format == SKY_ARROW) {
        context->result.bytes = (int64_t)sky_finish_arrow(context);
    } else {
        context->result.bytes = context->out.at - context->target;
    }
    forget_target(context, status);
}

int skyexport_configure(struct sky_context *context, const struct sky_settings *settings)
{
    if (!makes_sense(settings)) {
        return 0;
    }
    forget_target(context, SKY_NO_TARGET);
    context->settings = *settings;
    context->has_originals = 0;
    for (int i = 0; i < settings->column_count; i++) {
        context->has_originals |= settings->columns[i] == SKY_ORIGINALS;
    }
    if (settings->format != SKY_ARROW) {
        sky_prepare_json(context);
    }
    return 1;
}

int skyexport_set_target(struct sky_context *context, void *address, uint64_t capacity)
{
    forget_target(context, SKY_NO_TARGET);
    context->result.posts = context->result.bytes = 0;
    context->result.refused_row_id = context->result.formulas = context->result.ties = 0;
    context->result.refused_column = -1;
    if (address == NULL) {
        return 1;
    }
    if (context->settings.format == SKY_NO_FORMAT || capacity > LARGEST_TARGET_BYTES) {
        return 0;
    }
    context->target = context->out.at = address;
    context->out.end = context->target + (size_t)capacity;
    context->result.status = SKY_GOING_ON;
    return 1;
}

void skyexport_finish(struct sky_context *context)
{
    if (context->result.status == SKY_GOING_ON) {
        finish(context, SKY_INTERRUPTED);
    }
}

const struct sky_result *skyexport_result(const struct sky_context *context)
{
    return &context->result;
}

/* --- The aggregates --------------------------------------------------------------------------------------------- */

static void refuse(struct sqlite3_context *call, const struct sky_row *row, enum sky_status status)
{
    struct sky_context *context = row->context;
    context->result.refused_row_id = sqlite->value_int64(row->values[-1]);
    finish(context, status);
    if (status == SKY_NO_MEMORY) {
        sqlite->result_error_nomem(call);
    } else {
        sqlite->result_error(call, status == SKY_TOO_LARGE ? "the target is full" : "a post is not usual", -1);
    }
}

static void step(struct sqlite3_context *call, struct sqlite3_value **values, sky_render *render, int is_family)
{
    struct sky_context *context = sqlite->user_data(call);
    struct sky_row row = {sqlite, context, values + 1};
    if (context->result.status != SKY_GOING_ON || !is_family) {
        sqlite->result_error(call, "no target is set for this function", -1);
        return;
    }
    enum sky_status status = render(&row);
    if (status == SKY_GOING_ON) {
        context->result.posts++;
    } else {
        refuse(call, &row, status);
    }
}

static int32_t format_of(struct sqlite3_context *call)
{
    const struct sky_context *context = sqlite->user_data(call);
    return context->settings.format;
}

static void step_json(struct sqlite3_context *call, int count, struct sqlite3_value **values)
{
    (void)count;
    step(call, values, sky_render_json, format_of(call) == SKY_JSON || format_of(call) == SKY_JSON_LINES);
}

static void step_csv(struct sqlite3_context *call, int count, struct sqlite3_value **values)
{
    (void)count;
    step(call, values, sky_render_csv, format_of(call) == SKY_CSV);
}

static void step_arrow(struct sqlite3_context *call, int count, struct sqlite3_value **values)
{
    (void)count;
    step(call, values, sky_render_arrow, format_of(call) == SKY_ARROW);
}

static void step_row_ids(struct sqlite3_context *call, int count, struct sqlite3_value **values)
{
    (void)count;
    step(call, values, sky_list_row_id, format_of(call) == SKY_ROW_IDS);
}

static void final(struct sqlite3_context *call)
{
    struct sky_context *context = sqlite->user_data(call);
    if (context->result.status != SKY_GOING_ON) {
        sqlite->result_error(call, "no target is set for this function", -1);
        return;
    }
    finish(context, SKY_DONE);
    sqlite->result_int64(call, context->result.posts);
}

/* --- Loading ---------------------------------------------------------------------------------------------------- */

static void give_address(struct sqlite3_context *call, int count, struct sqlite3_value **values)
{
    (void)count;
    (void)values;
    sqlite->result_int64(call, (long long)(intptr_t)sqlite->user_data(call));
}

/* Called for each function that the connection forgets. */
static void forget(void *user_data)
{
    struct sky_context *context = user_data;
    context->references--;
    if (context->references > 0) {
        return;
    }
    sky_free_arrow(context);
    sqlite->free(context->scratch.bytes);
    sqlite->free(context);
}

static int add_function(struct sqlite3 *connection, struct sky_context *context, const char *name, int arguments,
                        sky_sqlite_function *scalar, sky_sqlite_function *step_function, sky_sqlite_final *final_function)
{
    context->references++;
    return sqlite->create_function_v2(connection, name, arguments, SKY_SQLITE_UTF8 | SKY_SQLITE_DIRECTONLY, context,
                                      scalar, step_function, final_function, forget);
}

static int add_functions(struct sqlite3 *connection, struct sky_context *context)
{
    int error = add_function(connection, context, "sky_context", 0, give_address, NULL, NULL);
    if (error == SKY_SQLITE_OK) {
        error = add_function(connection, context, "sky_render_json", ARGUMENTS, NULL, step_json, final);
    }
    if (error == SKY_SQLITE_OK) {
        error = add_function(connection, context, "sky_render_csv", ARGUMENTS, NULL, step_csv, final);
    }
    if (error == SKY_SQLITE_OK) {
        error = add_function(connection, context, "sky_render_arrow", ARGUMENTS, NULL, step_arrow, final);
    }
    if (error == SKY_SQLITE_OK) {
        error = add_function(connection, context, "sky_list_row_ids", 2, NULL, step_row_ids, final);
    }
    return error;
}

/* SQLite calls this when it loads the extension. */
SKY_EXPORTED int sqlite3_skyexport_init(struct sqlite3 *connection, char **message, const struct sky_sqlite_api *api)
{
    (void)message;
    if (api->libversion_number() < SKY_SQLITE_OLDEST || (sqlite != NULL && sqlite != api)) {
        return SKY_SQLITE_ERROR;
    }
    sqlite = api;
    struct sky_context *context = api->realloc64(NULL, sizeof *context);
    if (context == NULL) {
        return SKY_SQLITE_NOMEM;
    }
    memset(context, 0, sizeof *context);
    context->resize = api->realloc64;
    context->sqlite = api;
    context->references = 1;
    context->result.refused_column = -1;
    int error = add_functions(connection, context);
    forget(context);
    return error;
}
