/* Reading stored JSON strictly (RFC 8259), token by token, and writing it with other white space. */
#ifndef SKYEXPORT_JSON_H
#define SKYEXPORT_JSON_H

#include "text.h"

enum {
    SKY_MOST_LEVELS = 512, /* deeper is not usual */
    SKY_COMPACT = -1       /* a level that stands for no white space at all */
};

enum sky_token {
    SKY_NOT_JSON,
    SKY_KEY, /* with its colon read */
    SKY_STRING,
    SKY_SCALAR,
    SKY_OPEN_OBJECT,
    SKY_OPEN_ARRAY,
    SKY_CLOSE,
    SKY_END
};

/* What is known after each token. */
struct sky_json {
    const unsigned char *at;
    const unsigned char *end;
    struct sky_span spelt; /* the token; strings with their quotes */
    int level;             /* how many containers are around the token; around an opening or closing bracket, too */
    int depth;             /* how many are open behind it */
    int after_comma;
    int begins_line; /* whether a line break stands before it in indented JSON */
    int has_escape;  /* of a string or key: a backslash */
    int has_separator; /* of a string or key: U+2028 or U+2029 */
    int expected;      /* enum, private to json.c */
    uint32_t objects[SKY_MOST_LEVELS / 32];
};

void sky_json_begin(struct sky_json *json, struct sky_span text);

/* Reads a token. After SKY_NOT_JSON and SKY_END there is no other. */
enum sky_token sky_json_next(struct sky_json *json);

/* Reads the rest of a value whose first token was read. 0 when it is not JSON. */
int sky_json_pass(struct sky_json *json, enum sky_token first);

/* One JSON value, every token as it is spelt, but for raw U+2028 and U+2029.
 *
 * level: the level of indentation at which the value stands, or SKY_COMPACT. */
enum sky_status sky_put_json(struct sky_out *out, struct sky_span text, int level);

#endif
