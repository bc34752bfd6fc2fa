#include "media_names.h"

enum { MOST_NAMES = 16, IMAGES = 1, MEDIA = 2, EXTERNAL = 4 };

/* Names of one place in an embed, as parts of it. */
struct names {
    struct sky_span name[MOST_NAMES];
    int count;
};

static int is_key(const struct sky_json *json, const char *key)
{
    size_t size = strlen(key);
    return json->spelt.size == size + 2 && memcmp(json->spelt.at + 1, key, size) == 0;
}

/* Adds what follows the last slash of an address, up to the first `@`, unless that is nothing. */
static int add_name(struct names *names, struct sky_span address)
{
    const unsigned char *end = address.at + address.size - 1;
    const unsigned char *first = end;
    while (first > address.at + 1 && first[-1] != '/') {
        first--;
    }
    if (first == address.at + 1) {
        return 1;
    }
    const unsigned char *mark = memchr(first, '@', (size_t)(end - first));
    size_t size = (size_t)((mark == NULL ? end : mark) - first);
    if (size == 0) {
        return 1;
    }
    if (names->count == MOST_NAMES) {
        return 0;
    }
    names->name[names->count].at = first;
    names->name[names->count].size = size;
    names->count++;
    return 1;
}

/* Reads a value that may be an object; of that, the address which is the value of a key. */
static int read_address(struct sky_json *json, enum sky_token first, const char *key, struct names *names)
{
    int seen = 0;
    if (first != SKY_OPEN_OBJECT) {
        return sky_json_pass(json, first);
    }
    for (;;) {
        enum sky_token token = sky_json_next(json);
        if (token == SKY_CLOSE) {
            return 1;
        }
        if (token != SKY_KEY || json->has_escape) {
            return 0;
        }
        int wanted = is_key(json, key);
        token = sky_json_next(json);
        if (wanted && seen++) {
            return 0;
        }
        if (wanted && token == SKY_STRING) {
            if (json->has_escape || !add_name(names, json->spelt)) {
                return 0;
            }
        } else if (!sky_json_pass(json, token)) {
            return 0;
        }
    }
}

/* Reads a value that may be a list of images. */
static int read_images(struct sky_json *json, enum sky_token first, struct names *names)
{
    if (first != SKY_OPEN_ARRAY) {
        return sky_json_pass(json, first);
    }
    for (;;) {
        enum sky_token token = sky_json_next(json);
        if (token == SKY_CLOSE) {
            return 1;
        }
        if (!read_address(json, token, "fullsize", names)) {
            return 0;
        }
    }
}

/* Reads a value that may be an object; of that, the images. */
static int read_media(struct sky_json *json, enum sky_token first, struct names *names)
{
    int seen = 0;
    if (first != SKY_OPEN_OBJECT) {
        return sky_json_pass(json, first);
    }
    for (;;) {
        enum sky_token token = sky_json_next(json);
        if (token == SKY_CLOSE) {
            return 1;
        }
        if (token != SKY_KEY || json->has_escape) {
            return 0;
        }
        int wanted = is_key(json, "images");
        token = sky_json_next(json);
        if (wanted && seen++) {
            return 0;
        }
        if (!(wanted ? read_images(json, token, names) : sky_json_pass(json, token))) {
            return 0;
        }
    }
}

/* Reads the members of the embed itself. */
static int read_embed(struct sky_json *json, struct names *images, struct names *media, struct names *external)
{
    int seen = 0;
    for (;;) {
        enum sky_token token = sky_json_next(json);
        if (token == SKY_CLOSE) {
            return 1;
        }
        if (token != SKY_KEY || json->has_escape) {
            return 0;
        }
        int wanted = is_key(json, "images")     ? IMAGES
                     : is_key(json, "media")    ? MEDIA
                     : is_key(json, "external") ? EXTERNAL
                                                : 0;
        token = sky_json_next(json);
        if ((seen & wanted) != 0) {
            return 0;
        }
        seen |= wanted;
        int is_good = wanted == IMAGES     ? read_images(json, token, images)
                      : wanted == MEDIA    ? read_media(json, token, media)
                      : wanted == EXTERNAL ? read_address(json, token, "thumb", external)
                                           : sky_json_pass(json, token);
        if (!is_good) {
            return 0;
        }
    }
}

static int put_names(struct sky_out *out, const struct names *names, int *count)
{
    for (int i = 0; i < names->count; i++) {
        if (((*count)++ > 0 && !sky_put_byte(out, ';')) || !sky_put(out, names->name[i].at, names->name[i].size)) {
            return 0;
        }
    }
    return 1;
}

enum sky_status sky_put_media_names(struct sky_out *out, struct sky_span embed)
{
    struct sky_json json;
    struct names images, media, external;
    images.count = media.count = external.count = 0;
    sky_json_begin(&json, embed);
    enum sky_token first = sky_json_next(&json);
    int is_good = first == SKY_OPEN_OBJECT ? read_embed(&json, &images, &media, &external) : sky_json_pass(&json, first);
    if (!is_good || sky_json_next(&json) != SKY_END) {
        return SKY_NOT_USUAL;
    }
    int count = 0;
    int fits = put_names(out, &images, &count) && put_names(out, &media, &count) && put_names(out, &external, &count);
    return fits ? SKY_GOING_ON : SKY_TOO_LARGE;
}
