/* SPDX-License-Identifier: BSD-3-Clause */
/* json.h - write JSON that every parser reads (RFC 8259).
 *
 * Commas, indentation and escapes come from here; nesting is the caller's. key
 * is NULL inside an array and for the outermost value.
 */
#ifndef PW_TOOLS_JSON_H
#define PW_TOOLS_JSON_H

#include <stdbool.h>
#include <stdio.h>

struct pw_json {
    FILE *to;
    int depth;
    bool follows;       /* another value stands before on this level */
};

/* open: '{' or '['. close: its partner; the outermost one ends the line. */
void pw_json_open(struct pw_json *j, const char *key, char bracket);
void pw_json_close(struct pw_json *j, char bracket);

/* Bytes that are not UTF-8 become U+FFFD. */
void pw_json_string(struct pw_json *j, const char *key, const char *value);
void pw_json_integer(struct pw_json *j, const char *key, long long value);
void pw_json_number(struct pw_json *j, const char *key, double value);    /* or null */
void pw_json_bool(struct pw_json *j, const char *key, bool value);
void pw_json_null(struct pw_json *j, const char *key);

#endif
