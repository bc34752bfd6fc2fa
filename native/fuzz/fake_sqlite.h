/* As much of SQLite as the renderer calls, for a fuzzer: values from its input, allocations that fail when told to. */
#ifndef SKYEXPORT_FAKE_SQLITE_H
#define SKYEXPORT_FAKE_SQLITE_H

#include "../skyexport.h"
#include "../sqlite_api.h"

struct sqlite3_value {
    int type; /* SKY_SQLITE_… */
    long long number;
    const void *bytes;
    int size;
};

/* What a connection would be: the functions that the extension adds to it. */
struct sqlite3 {
    struct {
        const char *name;
        void *user_data;
        sky_sqlite_function *scalar, *step;
        sky_sqlite_final *final;
        void (*destroy)(void *);
    } functions[8];
    int count;
};

/* A call of a function, and its result. */
struct sqlite3_context {
    void *user_data;
    long long number;
    int failed;
};

extern const struct sky_sqlite_api fake_sqlite;

/* Have the allocation after so many others fail; none when negative. */
void fake_fail_after(int allocations);

/* The entry point of the extension. */
int sqlite3_skyexport_init(struct sqlite3 *connection, char **message, const struct sky_sqlite_api *api);

/* Have the connection forget all of its functions. */
void fake_close(struct sqlite3 *connection);

#endif
