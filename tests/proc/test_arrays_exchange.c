/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays as DLPack tensors and Arrow columns, and back (contract 29). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "place.h"

/* As dlpack.h and arrow/c/abi.h have them. */
struct DLManagedTensor {
	void *data;
	int32_t device_type, device_id, ndim;
	uint8_t code, bits;
	uint16_t lanes;
	int64_t *shape, *strides;
	uint64_t byte_offset;
	void *manager_ctx;
	void (*deleter)(struct DLManagedTensor *self);
};

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

static int deleted;

static void count_tensor(struct DLManagedTensor *self)
{
	(void)self;
	deleted++;
}

static void count_column(struct ArrowArray *self)
{
	self->release = NULL;
	deleted++;
}

static void count_schema(struct ArrowSchema *self)
{
	self->release = NULL;
	deleted++;
}

static void test_29_dlpack_out_shares_and_in_copies(void **state)
{
	struct place *p = *state;
	const size_t shape[2] = { 3, 4 };
	int64_t turned[2] = { 4, 3 }, steps[2] = { 1, 4 };
	struct DLManagedTensor *t = NULL, mine;
	sb_array *a, *b;

	assert_ok(sb_array_new(p->s, "f4", 2, shape, &a));
	for (int i = 0; i < 12; i++)
		((float *)sb_array_writable(a))[i] = (float)i;
	assert_ok(sb_array_to_dlpack(a, &t));
	sb_array_unref(a); /* the tensor keeps it */
	assert_ptr_equal(t->data, sb_array_data(a));
	assert_true(t->device_type == 1 && t->ndim == 2 && t->code == 2 && t->bits == 32 && t->lanes == 1);
	assert_true(t->shape[1] == 4 && t->strides[0] == 4 && t->strides[1] == 1 && t->byte_offset == 0);
	mine = *t;
	mine.shape = turned;
	mine.strides = steps;
	mine.deleter = count_tensor;
	deleted = 0;
	assert_ok(sb_array_from_dlpack(p->s, &mine, &b));
	assert_int_equal(deleted, 1);
	assert_true(sb_array_shape(b)[0] == 4 && ((const float *)sb_array_data(b))[1] == 4);
	t->deleter(t);
	sb_array_unref(b);
	mine.lanes = 4;
	assert_int_equal(sb_array_from_dlpack(p->s, &mine, &b), SB_EKIND);
	assert_int_equal(deleted, 1);
}

static void test_29_arrow_out_shares_and_in_copies(void **state)
{
	static const char *const dtypes[] = { "int8", "u2", "i8", "f4", "f8", "M8[us]", "m8[s]", "S3" };
	struct place *p = *state;
	size_t n = 10;

	for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
		struct ArrowArray column, mine;
		struct ArrowSchema schema, told;
		sb_array *a, *b;

		assert_ok(sb_array_new(p->s, dtypes[i], 1, &n, &a));
		for (size_t k = 0; k < sb_array_nbytes(a); k++)
			((uint8_t *)sb_array_writable(a))[k] = (uint8_t)k;
		assert_ok(sb_array_to_arrow(a, "price", &column, &schema));
		assert_ptr_equal(column.buffers[1], sb_array_data(a));
		assert_string_equal(schema.name, "price");
		mine = column;
		mine.offset = 3;
		mine.length = 5;
		mine.release = count_column;
		told = schema;
		told.release = count_schema;
		deleted = 0;
		assert_ok(sb_array_from_arrow(p->s, &mine, &told, &b));
		assert_int_equal(deleted, 2);
		assert_string_equal(sb_array_dtype(b), sb_array_dtype(a));
		assert_int_equal(sb_array_count(b), 5);
		assert_memory_equal(sb_array_data(b),
		                    (const char *)sb_array_data(a) + 3 * sb_array_itemsize(a),
		                    sb_array_nbytes(b));
		sb_array_unref(a);
		sb_array_unref(b);
		column.release(&column);
		schema.release(&schema);
	}
}

static void test_29_what_has_no_form_there_is_refused(void **state)
{
	static const uint8_t valid[1] = { 0xfd };
	const void *buffers[2] = { valid, valid };
	struct place *p = *state;
	struct ArrowArray column = {
		.length = 4, .null_count = -1, .n_buffers = 2, .buffers = buffers, .release = count_column
	};
	struct ArrowSchema schema = { .format = "c", .release = count_schema };
	struct DLManagedTensor *t;
	sb_array *a;
	size_t n = 4;

	deleted = 0;
	assert_int_equal(sb_array_from_arrow(p->s, &column, &schema, &a), SB_EKIND); /* a null */
	schema.format = "u";
	assert_int_equal(sb_array_from_arrow(p->s, &column, &schema, &a), SB_EKIND);
	assert_int_equal(deleted, 0);
	assert_ok(sb_array_new(p->s, "U4", 1, &n, &a));
	assert_int_equal(sb_array_to_arrow(a, NULL, &column, &schema), SB_EKIND);
	assert_int_equal(sb_array_to_dlpack(a, &t), SB_EKIND);
	sb_array_unref(a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, place_here, place_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_29_dlpack_out_shares_and_in_copies),
		TEST(test_29_arrow_out_shares_and_in_copies),
		TEST(test_29_what_has_no_form_there_is_refused),
	};

	return cmocka_run_group_tests_name("arrays_exchange", tests, NULL, NULL);
}
