#include "json.h"

enum expected { VALUE, ITEM_OR_END, KEY_OR_END, VALUE_OF_KEY, MORE_OR_END };

void sky_json_begin(struct sky_json *json, struct sky_span text)
{
    json->at = text.at;
    json->end = text.at + text.size;
    json->depth = 0;
    json->expected = VALUE;
}

static int is_in_object(const struct sky_json *json)
{
    int innermost = json->depth - 1;
    return json->depth > 0 && (json->objects[innermost / 32] >> (innermost % 32) & 1) != 0;
}

static void skip_white_space(struct sky_json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t')) {
        json->at++;
    }
}

static int is_hexadecimal(unsigned char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

/* Size of the escape at *at*; 0 when it is none. */
static size_t escape_size(const unsigned char *at, const unsigned char *end)
{
    if (end - at < 2) {
        return 0;
    }
    switch (at[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return 2;
    case 'u':
        return end - at >= 6 && is_hexadecimal(at[2]) && is_hexadecimal(at[3]) && is_hexadecimal(at[4]) &&
                       is_hexadecimal(at[5])
                   ? 6
                   : 0;
    default:
        return 0;
    }
}

/* Reads a string from its opening quote on. */
static int read_string(struct sky_json *json)
{
    const unsigned char *at = json->at + 1;
    const unsigned char *end = json->end;
    json->has_escape = 0;
    json->has_separator = 0;
    for (;;) {
        while (end - at >= 8) {
            uint64_t specials = sky_specials(sky_load(at));
            if (specials != 0) {
                at += sky_before_mark(specials);
                break;
            }
            at += 8;
        }
        for (int i = 0; i < SKY_SINGLE_CHARACTERS && at < end && *at != '"'; i++) {
            size_t size = 1;
            if (*at >= 0x80) {
                size = sky_character_size(at, end);
                json->has_separator |= size == 3 && sky_is_line_separator(at);
            } else if (*at == '\\') {
                size = escape_size(at, end);
                json->has_escape = 1;
            } else if (*at < 0x20) {
                return 0;
            }
            if (size == 0) {
                return 0;
            }
            at += size;
        }
        if (at == end) {
            return 0;
        }
        if (*at == '"') {
            at++;
            break;
        }
    }
    json->spelt.at = json->at;
    json->spelt.size = (size_t)(at - json->at);
    json->at = at;
    return 1;
}

static const unsigned char *skip_digits(const unsigned char *at, const unsigned char *end)
{
    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    return at;
}

/* The end of the number at *at*; NULL when it is none. */
static const unsigned char *number_end(const unsigned char *at, const unsigned char *end)
{
    if (at < end && *at == '-') {
        at++;
    }
    const unsigned char *first = at;
    at = skip_digits(at, end);
    if (at == first || (*first == '0' && at - first > 1)) {
        return NULL;
    }
    if (at < end && *at == '.') {
        first = ++at;
        at = skip_digits(at, end);
        if (at == first) {
            return NULL;
        }
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-')) {
            at++;
        }
        first = at;
        at = skip_digits(at, end);
        if (at == first) {
            return NULL;
        }
    }
    return at;
}

static const unsigned char *word_end(const unsigned char *at, const unsigned char *end, const char *word)
{
    size_t size = strlen(word);
    return (size_t)(end - at) >= size && memcmp(at, word, size) == 0 ? at + size : NULL;
}

/* Reads a number, true, false or null. What may not follow one is noticed with the next token. */
static int read_scalar(struct sky_json *json)
{
    const unsigned char *end;
    switch (*json->at) {
    case 't':
        end = word_end(json->at, json->end, "true");
        break;
    case 'f':
        end = word_end(json->at, json->end, "false");
        break;
    case 'n':
        end = word_end(json->at, json->end, "null");
        break;
    default:
        end = number_end(json->at, json->end);
    }
    if (end == NULL) {
        return 0;
    }
    json->spelt.at = json->at;
    json->spelt.size = (size_t)(end - json->at);
    json->at = end;
    return 1;
}

static enum sky_token open_container(struct sky_json *json, int is_object)
{
    if (json->depth == SKY_MOST_LEVELS) {
        return SKY_NOT_JSON;
    }
    uint32_t bit = UINT32_C(1) << (json->depth % 32);
    uint32_t *word = &json->objects[json->depth / 32];
    *word = is_object ? *word | bit : *word & ~bit;
    json->depth++;
    json->spelt.at = json->at++;
    json->spelt.size = 1;
    json->expected = is_object ? KEY_OR_END : ITEM_OR_END;
    return is_object ? SKY_OPEN_OBJECT : SKY_OPEN_ARRAY;
}

static enum sky_token close_container(struct sky_json *json)
{
    json->begins_line = json->expected == MORE_OR_END;
    json->depth--;
    json->level = json->depth;
    json->spelt.at = json->at++;
    json->spelt.size = 1;
    json->expected = MORE_OR_END;
    return SKY_CLOSE;
}

static enum sky_token read_value(struct sky_json *json)
{
    if (json->at == json->end) {
        return SKY_NOT_JSON;
    }
    switch (*json->at) {
    case '{':
        return open_container(json, 1);
    case '[':
        return open_container(json, 0);
    case '"':
        json->expected = MORE_OR_END;
        return read_string(json) ? SKY_STRING : SKY_NOT_JSON;
    default:
        json->expected = MORE_OR_END;
        return read_scalar(json) ? SKY_SCALAR : SKY_NOT_JSON;
    }
}

static enum sky_token read_key(struct sky_json *json)
{
    if (json->at == json->end || *json->at != '"' || !read_string(json)) {
        return SKY_NOT_JSON;
    }
    skip_white_space(json);
    if (json->at == json->end || *json->at != ':') {
        return SKY_NOT_JSON;
    }
    json->at++;
    json->expected = VALUE_OF_KEY;
    return SKY_KEY;
}

enum sky_token sky_json_next(struct sky_json *json)
{
    skip_white_space(json);
    json->level = json->depth;
    json->after_comma = 0;
    if (json->depth == 0 && json->expected == MORE_OR_END) {
        return json->at == json->end ? SKY_END : SKY_NOT_JSON;
    }
    if (json->expected == VALUE || json->expected == VALUE_OF_KEY) {
        json->begins_line = 0;
        return read_value(json);
    }
    if (json->at == json->end) {
        return SKY_NOT_JSON;
    }
    int in_object = is_in_object(json);
    if (*json->at == (in_object ? '}' : ']')) {
        return close_container(json);
    }
    if (json->expected == MORE_OR_END) {
        if (*json->at != ',') {
            return SKY_NOT_JSON;
        }
        json->at++;
        json->after_comma = 1;
        skip_white_space(json);
    }
    json->begins_line = 1;
    return in_object ? read_key(json) : read_value(json);
}

int sky_json_pass(struct sky_json *json, enum sky_token first)
{
    if (first != SKY_OPEN_OBJECT && first != SKY_OPEN_ARRAY) {
        return first == SKY_STRING || first == SKY_SCALAR;
    }
    int outside = json->depth - 1;
    while (json->depth > outside) {
        if (sky_json_next(json) == SKY_NOT_JSON) {
            return 0;
        }
    }
    return 1;
}

/* Writes a line break and the indentation behind it, with a comma before it or without. */
static int put_line_break(struct sky_out *out, int with_comma, int level)
{
    static const char usual[SKY_WORD_BYTES] = ",\n                             ";
    size_t size = 2 + 2 * (size_t)level;
    if (sky_room(out) >= SKY_WORD_BYTES && size < SKY_WORD_BYTES) {
        memcpy(out->at, with_comma ? usual : usual + 1, SKY_WORD_BYTES - 1);
        out->at += with_comma ? size : size - 1;
        return 1;
    }
    if ((with_comma && !sky_put_byte(out, ',')) || sky_room(out) < size - 1) {
        return 0;
    }
    out->at[0] = '\n';
    memset(out->at + 1, ' ', size - 2);
    out->at += size - 1;
    return 1;
}

static int put_token(struct sky_out *out, const struct sky_json *json, enum sky_token token, int level)
{
    if (json->begins_line && level != SKY_COMPACT) {
        if (!put_line_break(out, json->after_comma, level + json->level)) {
            return 0;
        }
    } else if (json->after_comma && !sky_put_byte(out, ',')) {
        return 0;
    }
    int is_string = token == SKY_KEY || token == SKY_STRING;
    if (is_string && json->has_separator) {
        if (!sky_put_with_separators_escaped(out, json->spelt)) {
            return 0;
        }
    } else if (!sky_put_short(out, json->spelt, json->end)) {
        return 0;
    }
    return token != SKY_KEY || sky_put(out, ": ", level == SKY_COMPACT ? 1 : 2);
}

enum sky_status sky_put_json(struct sky_out *out, struct sky_span text, int level)
{
    struct sky_json json;
    sky_json_begin(&json, text);
    for (;;) {
        enum sky_token token = sky_json_next(&json);
        if (token == SKY_NOT_JSON) {
            return SKY_NOT_USUAL;
        }
        if (token == SKY_END) {
            return SKY_GOING_ON;
        }
        if (!put_token(out, &json, token, level)) {
            return SKY_TOO_LARGE;
        }
    }
}
