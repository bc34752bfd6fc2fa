/* The part of SQLite's interface that the renderer calls.
 *
 * SQLite hands an extension a table of its functions. The order of that table never changes: new functions are added
 * at its end. This header declares the dozen that are used, each at its place, so that no header of SQLite is needed
 * to build. A test compares every place with SQLite's own sqlite3ext.h.
 *
 * Source: https://sqlite.org/loadext.html, https://sqlite.org/src/file/src/sqlite3ext.h
 */
#ifndef SKYEXPORT_SQLITE_API_H
#define SKYEXPORT_SQLITE_API_H

struct sqlite3;
struct sqlite3_context;
struct sqlite3_value;

enum {
    SKY_SQLITE_OK = 0,
    SKY_SQLITE_ERROR = 1,
    SKY_SQLITE_NOMEM = 7,
    SKY_SQLITE_UTF8 = 1,
    SKY_SQLITE_DIRECTONLY = 0x80000,
    /* The first version that knows DIRECTONLY: an older one would let views and triggers call the renderer. */
    SKY_SQLITE_OLDEST = 3030000
};

enum {
    SKY_SQLITE_INTEGER = 1,
    SKY_SQLITE_FLOAT = 2,
    SKY_SQLITE_TEXT = 3,
    SKY_SQLITE_BLOB = 4,
    SKY_SQLITE_NULL = 5
};

typedef void sky_sqlite_function(struct sqlite3_context *, int, struct sqlite3_value **);
typedef void sky_sqlite_final(struct sqlite3_context *);
typedef void (*sky_sqlite_unused)(void);

struct sky_sqlite_api {
    sky_sqlite_unused unused_0[58];
    void (*free)(void *); /* 58 */
    sky_sqlite_unused unused_59[8];
    int (*libversion_number)(void); /* 67 */
    sky_sqlite_unused unused_68[12];
    void (*result_error)(struct sqlite3_context *, const char *, int); /* 80 */
    sky_sqlite_unused unused_81[2];
    void (*result_int64)(struct sqlite3_context *, long long); /* 83 */
    sky_sqlite_unused unused_84[17];
    void *(*user_data)(struct sqlite3_context *);          /* 101 */
    const void *(*value_blob)(struct sqlite3_value *);     /* 102 */
    int (*value_bytes)(struct sqlite3_value *);            /* 103 */
    sky_sqlite_unused unused_104[3];
    long long (*value_int64)(struct sqlite3_value *); /* 107 */
    sky_sqlite_unused unused_108[5];
    int (*value_type)(struct sqlite3_value *); /* 113 */
    sky_sqlite_unused unused_114[23];
    void (*result_error_nomem)(struct sqlite3_context *); /* 137 */
    sky_sqlite_unused unused_138[24];
    int (*create_function_v2)(struct sqlite3 *, const char *, int, int, void *, sky_sqlite_function *,
                              sky_sqlite_function *, sky_sqlite_final *, void (*)(void *)); /* 162 */
    sky_sqlite_unused unused_163[36];
    void *(*realloc64)(void *, unsigned long long); /* 199 */
};

#endif
