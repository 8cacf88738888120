/* SPDX-License-Identifier: BSD-3-Clause */
/* malloc_tell.h - a line on stderr from inside malloc: no stdio, no lock. */
#ifndef PINWHEEL_MALLOC_TELL_H
#define PINWHEEL_MALLOC_TELL_H

/* "pinwheel-malloc: SENTENCE" and a newline. */
void pw_malloc_tell(const char *sentence);

#endif
