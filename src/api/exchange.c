/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays as DLPack tensors and Arrow columns. The structs are declared here as their specifications have them:
 * dmlc/dlpack include/dlpack/dlpack.h (before its version 1.0: DLManagedTensor), and "The Arrow C data interface".
 *
 * Locks: none. Crash: see shm/arena.c.
 */
#include "snakebridge/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "fail.h"

/* ── DLPack ── */

enum { DL_CPU = 1, DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_COMPLEX = 5, DL_BOOL = 6 };

struct dl_tensor {
	void *data;
	int32_t device_type, device_id;
	int32_t ndim;
	uint8_t code, bits;
	uint16_t lanes;
	int64_t *shape, *strides; /* in elements; strides NULL: C order */
	uint64_t byte_offset;
};

struct DLManagedTensor {
	struct dl_tensor tensor;
	void *manager_ctx;
	void (*deleter)(struct DLManagedTensor *self);
};

struct exported {
	struct DLManagedTensor managed;
	sb_array *array;
	int64_t shape[SB_ARRAY_NDIM_MAX], strides[SB_ARRAY_NDIM_MAX];
};

static const struct {
	char kind;
	uint8_t code;
} dl_codes[] = {
	{ 'i', DL_INT }, { 'u', DL_UINT }, { 'f', DL_FLOAT }, { 'c', DL_COMPLEX }, { 'b', DL_BOOL }
};
#define DL_CODES (sizeof(dl_codes) / sizeof(dl_codes[0]))

static void dl_delete(struct DLManagedTensor *self)
{
	struct exported *e = self->manager_ctx;

	sb_array_unref(e->array);
	free(e);
}

static int no_kind(const sb_array *array, const char *where)
{
	return sb__fail(SB_EKIND, "an array of dtype %s has no form in %s", array->dtype, where);
}

int sb_array_to_dlpack(sb_array *array, struct DLManagedTensor **ret_tensor)
{
	struct exported *e;
	size_t k = 0;

	if (!array || !ret_tensor)
		return sb__fail(SB_EINVAL, "sb_array_to_dlpack: array or ret_tensor is NULL");
	while (k < DL_CODES && dl_codes[k].kind != array->dtype[1])
		k++;
	if (k == DL_CODES || array->dtype[0] == '>')
		return no_kind(array, "DLPack");
	for (int d = 0; d < array->ndim; d++)
		if (array->strides[d] % (int64_t)array->itemsize)
			return sb__fail(SB_EKIND, "the array's strides are not multiples of its element "
			                          "size, which DLPack cannot express");
	if (!sb_array_writable(array))
		return sb_last_error()->code;
	e = calloc(1, sizeof(*e));
	if (!e)
		return sb__fail_memory("a tensor");
	for (int d = 0; d < array->ndim; d++) {
		e->shape[d] = (int64_t)array->shape[d];
		e->strides[d] = array->strides[d] / (int64_t)array->itemsize;
	}
	e->array = sb_array_ref(array);
	e->managed = (struct DLManagedTensor){ { .data = array->data,
		                                 .device_type = DL_CPU,
		                                 .ndim = array->ndim,
		                                 .code = dl_codes[k].code,
		                                 .bits = (uint8_t)(8 * array->itemsize),
		                                 .lanes = 1,
		                                 .shape = e->shape,
		                                 .strides = e->strides },
		                               e,
		                               dl_delete };
	*ret_tensor = &e->managed;
	return 0;
}

int sb_array_from_dlpack(sb_session *session, struct DLManagedTensor *managed, sb_array **ret_array)
{
	const struct dl_tensor *t = managed ? &managed->tensor : NULL;
	size_t shape[SB_ARRAY_NDIM_MAX], k = 0, itemsize, nbytes;
	int64_t strides[SB_ARRAY_NDIM_MAX];
	char dtype[8];
	int err;

	if (!t || !ret_array)
		return sb__fail(SB_EINVAL, "sb_array_from_dlpack: tensor or ret_array is NULL");
	while (k < DL_CODES && dl_codes[k].code != t->code)
		k++;
	if (k == DL_CODES || t->lanes != 1 || t->bits % 8 || !t->bits || t->device_type != DL_CPU ||
	    t->ndim < 0 || t->ndim > SB_ARRAY_NDIM_MAX)
		return sb__fail(
			SB_EKIND,
			"a tensor of type code %d with %d bits, %d lanes and %d dimensions on device %d "
			"cannot be shared",
			t->code, t->bits, t->lanes, (int)t->ndim, (int)t->device_type);
	itemsize = t->bits / 8u;
	for (int d = 0; d < t->ndim; d++) {
		if (t->shape[d] < 0)
			return sb__fail(SB_EINVAL, "a tensor's shape is negative");
		shape[d] = (size_t)t->shape[d];
	}
	if (!sb__array_pack_strides(t->ndim, shape, itemsize, false, strides, &nbytes))
		return sb__fail(SB_ETOOBIG, "the tensor has more bytes than there are addresses");
	for (int d = 0; t->strides && d < t->ndim; d++)
		strides[d] = t->strides[d] * (int64_t)itemsize;
	snprintf(dtype, sizeof(dtype), "=%c%d", dl_codes[k].kind, (int)itemsize);
	err = sb_array_new(session, dtype, t->ndim, shape, ret_array);
	if (err)
		return err;
	if (nbytes > 0)
		sb__array_gather(t->ndim, shape, strides, itemsize, false,
		                 (const uint8_t *)t->data + t->byte_offset, (*ret_array)->data);
	if (managed->deleter)
		managed->deleter(managed);
	return 0;
}

/* ── Arrow ── */

struct ArrowSchema {
	const char *format, *name, *metadata;
	int64_t flags, n_children;
	struct ArrowSchema **children, *dictionary;
	void (*release)(struct ArrowSchema *self);
	void *private_data;
};

struct ArrowArray {
	int64_t length, null_count, offset, n_buffers, n_children;
	const void **buffers;
	struct ArrowArray **children, *dictionary;
	void (*release)(struct ArrowArray *self);
	void *private_data;
};

static const struct {
	const char *format, *dtype;
} arrow_types[] = {
	{ "c", "|i1" },        { "C", "|u1" },        { "s", "=i2" },        { "S", "=u2" },
	{ "i", "=i4" },        { "I", "=u4" },        { "l", "=i8" },        { "L", "=u8" },
	{ "e", "=f2" },        { "f", "=f4" },        { "g", "=f8" },        { "tss:", "=M8[s]" },
	{ "tsm:", "=M8[ms]" }, { "tsu:", "=M8[us]" }, { "tsn:", "=M8[ns]" }, { "tDs", "=m8[s]" },
	{ "tDm", "=m8[ms]" },  { "tDu", "=m8[us]" },  { "tDn", "=m8[ns]" },
};
#define ARROW_TYPES (sizeof(arrow_types) / sizeof(arrow_types[0]))

/* What a column's array needs besides. */
struct column {
	const void *buffers[2]; /* validity: none; data */
	sb_array *array;
};

struct named {
	char format[24];
	char name[];
};

static void release_column(struct ArrowArray *self)
{
	struct column *c = self->private_data;

	sb_array_unref(c->array);
	free(c);
	self->release = NULL;
}

static void release_schema(struct ArrowSchema *self)
{
	free(self->private_data);
	self->release = NULL;
}

static bool arrow_format(const sb_array *array, char format[24])
{
	if (array->dtype[0] == '>')
		return false;
	if (array->dtype[1] == 'S') {
		snprintf(format, 24, "w:%zu", array->itemsize);
		return true;
	}
	for (size_t i = 0; i < ARROW_TYPES; i++)
		if (strcmp(arrow_types[i].dtype + 1, array->dtype + 1) == 0) {
			snprintf(format, 24, "%s", arrow_types[i].format);
			return true;
		}
	return false;
}

int sb_array_to_arrow(sb_array *array, const char *name, struct ArrowArray *ret_column,
                      struct ArrowSchema *ret_schema)
{
	struct column *c;
	struct named *n;
	char format[24];

	if (!array || !ret_column || !ret_schema)
		return sb__fail(SB_EINVAL, "sb_array_to_arrow: array, ret_column or ret_schema is NULL");
	if (!arrow_format(array, format))
		return no_kind(array, "Arrow");
	if (array->ndim != 1 || !sb_array_is_contiguous(array))
		return sb__fail(SB_EKIND, "an Arrow column is an array of one dimension without gaps");
	c = calloc(1, sizeof(*c));
	n = calloc(1, sizeof(*n) + (name ? strlen(name) : 0) + 1);
	if (!c || !n) {
		free(c);
		free(n);
		return sb__fail_memory("a column");
	}
	memcpy(n->format, format, sizeof(format));
	strcpy(n->name, name ? name : "");
	c->buffers[1] = array->data;
	c->array = sb_array_ref(array);
	*ret_column = (struct ArrowArray){ .length = (int64_t)array->shape[0],
		                           .n_buffers = 2,
		                           .buffers = c->buffers,
		                           .release = release_column,
		                           .private_data = c };
	*ret_schema = (struct ArrowSchema){
		.format = n->format, .name = n->name, .release = release_schema, .private_data = n
	};
	return 0;
}

static bool arrow_dtype(const char *format, char dtype[SB_DTYPE_MAX + 1])
{
	unsigned width;
	int used = 0;

	if (sscanf(format, "w:%9u%n", &width, &used) == 1 && !format[used] && width > 0) {
		snprintf(dtype, SB_DTYPE_MAX + 1, "S%u", width);
		return true;
	}
	for (size_t i = 0; i < ARROW_TYPES; i++) {
		size_t len = strlen(arrow_types[i].format);
		bool zoned = arrow_types[i].format[len - 1] ==
		             ':'; /* a time zone may follow: the numbers are UTC */

		if (strncmp(format, arrow_types[i].format, len) == 0 && (zoned || !format[len])) {
			snprintf(dtype, SB_DTYPE_MAX + 1, "%s", arrow_types[i].dtype);
			return true;
		}
	}
	return false;
}

static bool has_nulls(const struct ArrowArray *column)
{
	const uint8_t *valid = column->buffers[0];

	if (column->null_count == 0 || !valid)
		return false;
	for (int64_t i = column->offset; i < column->offset + column->length; i++)
		if (!(valid[i / 8] >> (i % 8) & 1))
			return true;
	return false;
}

int sb_array_from_arrow(sb_session *session, struct ArrowArray *column, struct ArrowSchema *schema,
                        sb_array **ret_array)
{
	char dtype[SB_DTYPE_MAX + 1], parsed[SB_DTYPE_MAX + 1];
	size_t length, itemsize;
	int err;

	if (!column || !schema || !ret_array || !column->release || !schema->release || !schema->format)
		return sb__fail(SB_EINVAL,
		                "sb_array_from_arrow: column, schema or ret_array is NULL or was released");
	if (column->n_buffers != 2 || column->n_children || column->dictionary || column->length < 0 ||
	    column->offset < 0 || !arrow_dtype(schema->format, dtype))
		return sb__fail(SB_EKIND, "an Arrow column of format \"%.20s\" cannot be shared as an array",
		                schema->format);
	if (has_nulls(column))
		return sb__fail(SB_EKIND,
		                "the Arrow column has nulls, which arrays have not: fill them first");
	err = sb__dtype_parse(dtype, strlen(dtype), parsed, &itemsize);
	length = (size_t)column->length;
	if (!err)
		err = sb_array_new(session, dtype, 1, &length, ret_array);
	if (err)
		return err;
	if (length > 0)
		memcpy((*ret_array)->data,
		       (const uint8_t *)column->buffers[1] + (size_t)column->offset * itemsize,
		       length * itemsize);
	column->release(column);
	schema->release(schema);
	return 0;
}
