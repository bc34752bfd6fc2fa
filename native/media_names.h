/* The names of the media files that an embed shows. */
#ifndef SKYEXPORT_MEDIA_NAMES_H
#define SKYEXPORT_MEDIA_NAMES_H

#include "json.h"

/* Writes the names joined with `;`, which takes at most the size of the embed.
 *
 * See docs/formats.md, "posts.csv", MediaFiles. Not usual: what is not one JSON value, the same key twice where it
 * matters, escapes in such keys and in addresses, more than a handful of names. */
enum sky_status sky_put_media_names(struct sky_out *out, struct sky_span embed);

#endif
