/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of knobs, and numbers from code and environment. Nothing is kept of the environment: whoever wants a
 * number that holds for a while takes a copy by sb__config_read().
 *
 * Locks: none; what code set is one atomic word a knob.  Crash: nothing is shared.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"

#define KNOB_NUMBER(id, name, env, value, min, max, option, text) \
	{ sizeof(sb_config_knob), name, env, option, text, 1, value, min, max, "" },
#define KNOB_TEXT(id, name, env, value, option, text) \
	{ sizeof(sb_config_knob), name, env, option, text, 0, 0, 0, 0, value },

static const sb_config_knob knobs[] = { SB__CONFIG_NUMBERS(KNOB_NUMBER) SB__CONFIG_TEXTS(KNOB_TEXT) };

/* By code: 0 = not set, else the value plus one (no knob reaches that far). */
static _Atomic uint64_t by_code[SB__CONFIG_NUMBERS_END];

const sb_config_knob *sb_config_describe(size_t index)
{
	return index < sizeof(knobs) / sizeof(knobs[0]) ? &knobs[index] : NULL;
}

static int out_of_range(const sb_config_knob *k, const char *name, const char *value)
{
	return sb__fail(SB_EINVAL, "%s is %s; it must be a whole number from %" PRIu64 " to %" PRIu64, name,
	                value, k->min, k->max);
}

static int from_environment(const sb_config_knob *k, const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	if (*text < '0' || *text > '9') /* strtoull() takes signs and spaces */
		return out_of_range(k, k->environment, text);
	*ret = strtoull(text, &end, 10);
	if (errno || *end || *ret < k->min || *ret > k->max)
		return out_of_range(k, k->environment, text);
	return 0;
}

static int number(size_t i, uint64_t *ret)
{
	uint64_t code = atomic_load(&by_code[i]);
	const char *text = secure_getenv(knobs[i].environment);

	if (code) {
		*ret = code - 1;
		return 0;
	}
	if (text && *text)
		return from_environment(&knobs[i], text, ret);
	*ret = knobs[i].default_number;
	return 0;
}

int sb__config_read(struct sb__config *ret)
{
	int err = 0;

	for (size_t i = 0; !err && i < SB__CONFIG_NUMBERS_END; i++)
		err = number(i, &ret->numbers[i]);
	return err;
}

int sb__config_check(enum sb__config_number knob, uint64_t value)
{
	const sb_config_knob *k = &knobs[knob];

	if (value >= k->min && value <= k->max)
		return 0;
	return sb__fail(SB_EINVAL, "%s is %" PRIu64 "; it must be %" PRIu64 " to %" PRIu64, k->name, value,
	                k->min, k->max);
}

static int find(const char *name, size_t *ret)
{
	for (size_t i = 0; name && i < SB__CONFIG_NUMBERS_END; i++) {
		if (strcmp(knobs[i].name, name) == 0) {
			*ret = i;
			return 0;
		}
	}
	for (size_t i = SB__CONFIG_NUMBERS_END; name && sb_config_describe(i); i++)
		if (strcmp(knobs[i].name, name) == 0)
			return sb__fail(SB_EINVAL, "%s is text: set %s before the program starts%s%s", name,
			                knobs[i].environment, *knobs[i].option ? ", or " : "",
			                knobs[i].option);
	return sb__fail(SB_EINVAL, "there is no knob \"%s\"; sb_config_describe() lists them",
	                name ? name : "(null)");
}

int sb_config_set(const char *name, uint64_t value)
{
	size_t i;
	int err = find(name, &i);

	if (!err)
		err = sb__config_check((enum sb__config_number)i, value);
	if (!err)
		atomic_store(&by_code[i], value + 1);
	return err;
}

int sb_config_get(const char *name, uint64_t *ret_value)
{
	size_t i;
	int err = find(name, &i);

	if (!err && !ret_value)
		err = sb__fail(SB_EINVAL, "sb_config_get: ret_value is NULL");
	return err ? err : number(i, ret_value);
}
