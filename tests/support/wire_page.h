/* SPDX-License-Identifier: Apache-2.0 */
/* The examples of docs/formats/wire.md. A failure to read the page fails the test. */
#ifndef TEST_WIRE_PAGE_H
#define TEST_WIRE_PAGE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_TEXT_MAX 4096

struct wire_example {
	char text[WIRE_TEXT_MAX];   /* diagnostic notation, or words of a message */
	char python[WIRE_TEXT_MAX]; /* an expression; "" if there is none */
	uint8_t bytes[WIRE_TEXT_MAX];
	size_t len;
};

/* Calls fn for every example in blocks of a kind ("wire", "wire-refused"); returns how many there were. */
unsigned wire_each(const char *kind, void (*fn)(const struct wire_example *, void *), void *arg);

#endif
