#include "fake_sqlite.h"

#include <stdlib.h>

static int left_before_failure = -1;

void fake_fail_after(int allocations)
{
    left_before_failure = allocations;
}

static void *resize(void *memory, unsigned long long size)
{
    if (left_before_failure == 0) {
        left_before_failure = -1;
        return NULL;
    }
    left_before_failure -= left_before_failure > 0;
    return realloc(memory, (size_t)size);
}

static int version(void)
{
    return SKY_SQLITE_OLDEST;
}

static void fail(struct sqlite3_context *call, const char *message, int size)
{
    (void)message;
    (void)size;
    call->failed = 1;
}

static void fail_without_memory(struct sqlite3_context *call)
{
    call->failed = 1;
}

static void give_number(struct sqlite3_context *call, long long number)
{
    call->number = number;
}

static void *user_data_of(struct sqlite3_context *call)
{
    return call->user_data;
}

static int type_of(struct sqlite3_value *value)
{
    return value->type;
}

static const void *bytes_of(struct sqlite3_value *value)
{
    return value->size > 0 ? value->bytes : NULL;
}

static int size_of(struct sqlite3_value *value)
{
    return value->size;
}

static long long number_of(struct sqlite3_value *value)
{
    return value->number;
}

static int create_function(struct sqlite3 *connection, const char *name, int arguments, int flags, void *user_data,
                           sky_sqlite_function *scalar, sky_sqlite_function *step, sky_sqlite_final *final,
                           void (*destroy)(void *))
{
    (void)arguments;
    if ((flags & SKY_SQLITE_DIRECTONLY) == 0) {
        abort();
    }
    int i = connection->count++;
    connection->functions[i].name = name;
    connection->functions[i].user_data = user_data;
    connection->functions[i].scalar = scalar;
    connection->functions[i].step = step;
    connection->functions[i].final = final;
    connection->functions[i].destroy = destroy;
    return SKY_SQLITE_OK;
}

void fake_close(struct sqlite3 *connection)
{
    while (connection->count > 0) {
        connection->count--;
        connection->functions[connection->count].destroy(connection->functions[connection->count].user_data);
    }
}

const struct sky_sqlite_api fake_sqlite = {
    .free = free,
    .libversion_number = version,
    .result_error = fail,
    .result_int64 = give_number,
    .user_data = user_data_of,
    .value_blob = bytes_of,
    .value_bytes = size_of,
    .value_int64 = number_of,
    .value_type = type_of,
    .result_error_nomem = fail_without_memory,
    .create_function_v2 = create_function,
    .realloc64 = resize,
};
