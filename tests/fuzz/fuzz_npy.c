/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays in files: the header that numpy.save() writes, or anything else. Input: what follows the magic. */
#include "fuzz.h"

#include "npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FILE *file = size > 0 ? fmemopen((void *)(uintptr_t)data, size, "r") : NULL;
	char error[TOOL_NPY_ERROR_MAX] = "";
	struct tool_npy npy;
	size_t count = 1;

	if (!file)
		return 0;
	if (tool_npy_read_header(file, &npy, error)) {
		FUZZ_CHECK(npy.ndim >= 0 && npy.ndim <= SB_ARRAY_NDIM_MAX);
		FUZZ_CHECK(memchr(npy.dtype, '\0', sizeof(npy.dtype)));
		for (int i = 0; i < npy.ndim; i++)
			count *= npy.shape[i];
		FUZZ_CHECK(count == npy.count && npy.nbytes == count * npy.itemsize);
		FUZZ_CHECK(npy.itemsize == 0 || npy.nbytes / npy.itemsize == count); /* "<U0" is one */
	} else {
		FUZZ_CHECK(error[0] && memchr(error, '\0', sizeof(error)));
	}
	fclose(file);
	return 0;
}
