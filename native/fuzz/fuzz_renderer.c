/* A fuzzer of the renderer: its input chooses the settings, the target, which allocation fails, and stored values.
 *
 *     sh native/fuzz/run.sh 60        # fuzz for a minute, with clang's libFuzzer
 *
 * Without libFuzzer (-DWITH_MAIN), the program runs the inputs in the files that it is given.
 *
 * Beside what sanitizers find, it holds the renderer to its promises: nothing behind the target is written, the posts
 * before a refused one are as they are without it, and a target without room for all of them has a part of the whole.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_sqlite.h"

enum { MOST_ROWS = 4, WHOLE_BYTES = 1 << 16, GUARD_BYTES = 16, ARGUMENTS = 1 + SKY_STORED_COLUMNS };

struct input {
    const uint8_t *at;
    size_t left;
};

static unsigned next_byte(struct input *input)
{
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->at++;
}

static const char *const usual[SKY_STORED_COLUMNS] = {
    "at://did:plc:abc/app.bsky.feed.post/1", "bafyreia", "did:plc:abc", "Hello", "2024-05-22 18:57:38.254 +0000 UTC",
    "2024-05-23 08:00:00.000000001 +0000 UTC m=+12.345", NULL, NULL, NULL, NULL, NULL, NULL, "at://x", "images",
    "{\"images\":[{\"fullsize\":\"https://x/y@jpeg\"}]}", "null", "2024-05-23 08:00:00 -0700 PDT"};

/* A value of the input, which is copied to memory of its own size; or one as most are. */
static struct sqlite3_value next_value(struct input *input, int column)
{
    struct sqlite3_value value = {SKY_SQLITE_NULL, 0, NULL, 0};
    unsigned kind = next_byte(input);
    size_t size = kind >> 3;
    switch (kind & 7) {
    case 0:
    case 1:
        if (usual[column] != NULL) {
            value.type = SKY_SQLITE_TEXT;
            value.size = (int)strlen(usual[column]);
            value.bytes = memcpy(malloc(strlen(usual[column])), usual[column], strlen(usual[column]));
        } else {
            value.type = SKY_SQLITE_INTEGER;
            value.number = 1;
        }
        return value;
    case 2:
        return value;
    case 3:
        value.type = SKY_SQLITE_INTEGER;
        value.number = (long long)((unsigned long long)next_byte(input) << size * 2);
        return value;
    case 4:
        value.type = SKY_SQLITE_FLOAT;
        return value;
    case 5:
        size += (size_t)next_byte(input) * 32;
        break;
    default:
        break;
    }
    size = size < input->left ? size : input->left;
    value.type = (kind & 1) != 0 ? SKY_SQLITE_TEXT : SKY_SQLITE_BLOB;
    value.size = (int)size;
    if (size > 0) {
        value.bytes = memcpy(malloc(size), input->at, size);
        input->at += size;
        input->left -= size;
    }
    return value;
}

static struct sky_settings next_settings(struct input *input)
{
    struct sky_settings settings = {0};
    unsigned flags = next_byte(input);
    settings.format = SKY_JSON + (int32_t)(flags & 3);
    settings.csv_safe = (int32_t)(flags >> 2 & 1);
    settings.delimiter = ",;|\t"[flags >> 3 & 3];
    if ((flags >> 5 & 3) == 3) { /* the list of row ids: it goes by the first column, whichever that is */
        settings.format = SKY_ROW_IDS;
    }
    if ((flags & 0x80) == 0) {
        int made = settings.format == SKY_CSV ? SKY_MEDIA_FILES : SKY_ORIGINALS;
        for (int column = 0; column < SKY_STORED_COLUMNS; column++) {
            if (settings.format != SKY_CSV || (column != SKY_EMBED_DATA && column != SKY_LABELS)) {
                settings.columns[settings.column_count++] = column;
            }
        }
        if (settings.format >= SKY_CSV) {
            settings.columns[settings.column_count++] = made;
        }
        return settings;
    }
    settings.column_count = (int32_t)next_byte(input) % (SKY_MAX_CHOSEN + 2);
    for (int i = 0; i < settings.column_count && i < SKY_MAX_CHOSEN; i++) {
        settings.columns[i] = (int32_t)next_byte(input) % (SKY_COLUMNS + 1);
    }
    return settings;
}

static struct sky_context *context_of(const struct sqlite3 *connection)
{
    return connection->functions[0].user_data;
}

/* Runs a statement over rows, which SQLite interrupts behind the last one or not. Gives how it ended. */
static struct sky_result run(struct sqlite3 *connection, const struct sky_settings *settings,
                             struct sqlite3_value rows[][ARGUMENTS], int count, unsigned char *target, size_t capacity,
                             int interrupted)
{
    struct sky_context *context = context_of(connection);
    static const int functions[] = {[SKY_JSON] = 1, [SKY_JSON_LINES] = 1, [SKY_CSV] = 2, [SKY_ARROW] = 3, [SKY_ROW_IDS] = 4};
    int function = functions[settings->format];
    struct sqlite3_context call = {context, -1, 0};
    struct sky_result result;
    if (!skyexport_set_target(context, target, capacity)) {
        abort();
    }
    for (int row = 0; row < count && !call.failed; row++) {
        struct sqlite3_value *values[ARGUMENTS];
        for (int i = 0; i < ARGUMENTS; i++) {
            values[i] = &rows[row][i];
        }
        connection->functions[function].step(&call, ARGUMENTS, values);
    }
    if (interrupted) {
        skyexport_finish(context);
    } else if (!call.failed) {
        connection->functions[function].final(&call);
    }
    memcpy(&result, skyexport_result(context), sizeof result);
    if (interrupted && !call.failed) {
        if (result.status != SKY_INTERRUPTED || result.posts != count || result.bytes > (int64_t)capacity) {
            abort();
        }
        return result;
    }
    if (call.failed != (result.status != SKY_DONE) || result.posts > count || result.bytes > (int64_t)capacity ||
        (result.status == SKY_DONE && result.posts != count) ||
        (result.status != SKY_DONE && result.refused_row_id != result.posts)) {
        abort();
    }
    return result;
}

static void check_rows(struct sqlite3 *connection, struct input *input, const struct sky_settings *settings,
                       struct sqlite3_value rows[][ARGUMENTS], int count)
{
    unsigned char *whole = calloc(WHOLE_BYTES, 1);
    struct sky_result all = run(connection, settings, rows, count, whole, WHOLE_BYTES, 0);
    size_t capacity = (size_t)next_byte(input) * 16 + next_byte(input) % 16;
    unsigned char *part = malloc(capacity + GUARD_BYTES);
    memset(part + capacity, 0xa5, GUARD_BYTES);
    unsigned failing = next_byte(input);
    fake_fail_after(failing < 64 ? (int)failing : -1);
    struct sky_result some = run(connection, settings, rows, count, part, capacity, (failing & 1) != 0);
    fake_fail_after(-1);
    for (size_t i = 0; i < GUARD_BYTES; i++) {
        if (part[capacity + i] != 0xa5) {
            abort();
        }
    }
    /* Of Arrow buffers the table in front depends on how many rows there are: render as many alone. */
    if (some.posts > all.posts || (settings->format != SKY_ARROW && memcmp(part, whole, (size_t)some.bytes) != 0)) {
        abort();
    }
    struct sky_result again = run(connection, settings, rows, (int)some.posts, whole, WHOLE_BYTES, 0);
    if (again.status != SKY_DONE || again.bytes != some.bytes || memcmp(part, whole, (size_t)some.bytes) != 0) {
        abort();
    }
    free(part);
    free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct sqlite3 connection = {0};
    struct sky_settings settings = next_settings(&input);
    int count = 1 + (int)(next_byte(&input) % MOST_ROWS);
    static struct sqlite3_value rows[MOST_ROWS][ARGUMENTS];
    if (sqlite3_skyexport_init(&connection, NULL, &fake_sqlite) != SKY_SQLITE_OK) {
        abort();
    }
    for (int row = 0; row < count; row++) {
        rows[row][0] = (struct sqlite3_value){SKY_SQLITE_INTEGER, row, NULL, 0};
        for (int column = 0; column < SKY_STORED_COLUMNS; column++) {
            rows[row][1 + column] = next_value(&input, column);
        }
    }
    if (skyexport_configure(context_of(&connection), &settings)) {
        check_rows(&connection, &input, &settings, rows, count);
    }
    fake_close(&connection);
    for (int row = 0; row < count; row++) {
        for (int i = 0; i < ARGUMENTS; i++) {
            free((void *)(uintptr_t)rows[row][i].bytes);
            rows[row][i].bytes = NULL;
        }
    }
    return 0;
}

#ifdef WITH_MAIN
int main(int count, char **paths)
{
    static unsigned char data[1 << 20];
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(paths[i], "rb");
        if (file == NULL) {
            perror(paths[i]);
            return 1;
        }
        size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%d inputs\n", count - 1);
    return 0;
}
#endif
