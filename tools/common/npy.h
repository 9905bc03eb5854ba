/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays in files as numpy.save() writes them (NEP 1, versions 1 to 3): numbers, fixed-size text, dates. Elements are read
 * straight into an array in shared memory, and written straight out of one. A file may come from anywhere: nothing in it is
 * believed. Objects (which numpy.load() would unpickle) and fields are refused.
 */
#ifndef SB_TOOLS_NPY_H
#define SB_TOOLS_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "snakebridge/array.h"

#define TOOL_NPY_MAGIC     "\x93NUMPY"
#define TOOL_NPY_MAGIC_LEN 6
#define TOOL_NPY_ERROR_MAX 256

struct tool_npy {
	char dtype[SB_DTYPE_MAX + 1];
	bool fortran; /* the first index runs fastest */
	int ndim;
	size_t shape[SB_ARRAY_NDIM_MAX];
	size_t itemsize, count, nbytes;
};

/*
 * Reads what comes before the elements; the magic has been read. Where the file's size is known it is checked that they are
 * all there, so that nothing is reserved for elements that do not exist. False: error is a sentence.
 */
bool tool_npy_read_header(FILE *file, struct tool_npy *ret, char error[TOOL_NPY_ERROR_MAX]);

/* A new array of the session, in C order, with the elements that follow in the file. 0; SB_EINVAL with a sentence in error;
 * else what sb_array_new() reports, and error is empty. */
int tool_npy_read_array(FILE *file, const struct tool_npy *npy, sb_session *session, sb_array **ret_array,
                        char error[TOOL_NPY_ERROR_MAX]);

/* Writes an array of any strides. False: error is a sentence. */
bool tool_npy_write(FILE *file, const sb_array *array, char error[TOOL_NPY_ERROR_MAX]);

#endif
