/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session's policy: patterns against names. A guard rail for honest callers: whoever may call one function that
 * hands out others (getattr, eval, importlib) gets around it.
 *
 * A path is judged by all its beginnings: "os.path:join.x" is the modules "os" and "os.path" and the names
 * "os.path:join" and "os.path:join.x". It is denied if any of them matches a pattern that denies, and where there are
 * patterns that allow modules, one of them must match. Without a colon the module's end is not known before things
 * are imported, so every dot is tried as one.
 *
 * Locks: none; a policy never changes. Crash story: private memory.
 */
#include "policy.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "snakebridge/error.h"

#define NAME_MAX_BYTES 1023 /* longer names are refused where there is a policy */

struct sb__policy {
	bool allows_paths, allows_attrs; /* something is said of what is allowed of these */
	size_t len;
	char text[]; /* as in engine.h; of an attribute's the pattern begins with a dot */
};

int sb__policy_make(const char *text, size_t len, struct sb__policy **ret)
{
	struct sb__policy *policy;

	*ret = NULL;
	if (!text || len == 0 || text[len - 1] != '\0')
		return 0;
	policy = calloc(1, sizeof(*policy) + len);
	if (!policy)
		return SB_ENOMEM;
	policy->len = len;
	memcpy(policy->text, text, len);
	for (const char *p = text; p < text + len; p += strlen(p) + 1) {
		policy->allows_attrs |= p[0] == '+' && p[1] == '.';
		policy->allows_paths |= p[0] == '+' && p[1] != '.';
	}
	*ret = policy;
	return 0;
}

void sb__policy_free(struct sb__policy *policy)
{
	free(policy);
}

/* The first pattern of that sign and kind that name matches, or NULL. */
static const char *match(const struct sb__policy *policy, char sign, bool attribute, const char *name)
{
	for (const char *p = policy->text; p < policy->text + policy->len; p += strlen(p) + 1)
		if (p[0] == sign && (p[1] == '.') == attribute &&
		    fnmatch(p + 1 + attribute, name, FNM_NOESCAPE) == 0)
			return p + 1;
	return NULL;
}

static int denied(struct sb__why *why, const char *pattern, const char *name)
{
	return sb__because(why, SB_EDENIED, "the session's policy denies \"%s\" by its pattern \"%s\"; %s",
	                   name, pattern, sb_error_advice(SB_EDENIED));
}

static int not_allowed(struct sb__why *why, const char *what, const char *name)
{
	return sb__because(
		why, SB_EDENIED,
		"the session's policy allows only some %s, and none of its patterns matches \"%s\"; %s", what,
		name, sb_error_advice(SB_EDENIED));
}

static int copy(const char *name, size_t len, char out[NAME_MAX_BYTES + 1], struct sb__why *why)
{
	if (len > NAME_MAX_BYTES || memchr(name, '\0', len))
		return sb__because(
			why, SB_EDENIED,
			"the session has a policy, and names of more than %d bytes or with a NUL are denied",
			NAME_MAX_BYTES);
	memcpy(out, name, len);
	out[len] = '\0';
	return 0;
}

/* The names between dots (and the colon), each against the patterns that deny attributes. */
static int check_pieces(const struct sb__policy *policy, char *name, struct sb__why *why)
{
	char *piece = name;
	int err = 0;

	while (!err && *piece) {
		char *end = piece + strcspn(piece, ".:"), was = *end;
		const char *pattern;

		*end = '\0';
		pattern = match(policy, '-', true, piece);
		if (pattern)
			err = denied(why, pattern, piece);
		*end = was;
		piece = was ? end + 1 : end;
	}
	return err;
}

/* One beginning of a path. */
static int check_beginning(const struct sb__policy *policy, const char *name, bool *allowed,
                           struct sb__why *why)
{
	const char *pattern = match(policy, '-', false, name);

	if (pattern)
		return denied(why, pattern, name);
	*allowed = *allowed || match(policy, '+', false, name);
	return 0;
}

/* All beginnings of a path whose module ends at byte module_len. It is written to, and restored. */
static int check_split(const struct sb__policy *policy, char *path, size_t module_len, bool *allowed,
                       struct sb__why *why)
{
	size_t len = strlen(path);
	char mark = path[module_len];
	int err = 0;

	if (mark)
		path[module_len] = ':';
	for (size_t i = 1; !err && i <= len; i++) {
		char was = path[i];

		if (was && was != '.' && was != ':')
			continue;
		path[i] = '\0';
		err = check_beginning(policy, path, allowed, why);
		path[i] = was;
	}
	path[module_len] = mark;
	return err;
}

int sb__policy_path(const struct sb__policy *policy, const char *path, size_t len, struct sb__why *why)
{
	char name[NAME_MAX_BYTES + 1];
	char *colon, *attrs;
	bool allowed = false;
	int err;

	if (!policy)
		return 0;
	err = copy(path, len, name, why);
	if (err)
		return err;
	colon = strchr(name, ':');
	attrs = colon ? colon : strchr(name, '.');
	if (attrs) /* what may be an attribute */
		err = check_pieces(policy, attrs + 1, why);
	if (!err && colon) {
		err = check_split(policy, name, (size_t)(colon - name), &allowed, why);
	} else {
		for (size_t i = 1; !err && i <= len; i++)
			if (name[i] == '.' || !name[i])
				err = check_split(policy, name, i, &allowed, why);
	}
	if (!err && policy->allows_paths && !allowed)
		err = not_allowed(why, "modules", name);
	return err;
}

int sb__policy_attr(const struct sb__policy *policy, const char *attr, size_t len, struct sb__why *why)
{
	char name[NAME_MAX_BYTES + 1];
	char *piece = name;
	int err;

	if (!policy)
		return 0;
	err = copy(attr, len, name, why);
	if (!err)
		err = check_pieces(policy, name, why);
	while (!err && policy->allows_attrs && piece) {
		char *dot = strchr(piece, '.');

		if (dot)
			*dot = '\0';
		if (!match(policy, '+', true, piece))
			err = not_allowed(why, "attributes", piece);
		piece = dot ? dot + 1 : NULL;
	}
	return err;
}

int sb__policy_denied_pieces(const struct sb__policy *policy, const char *attr, size_t len,
                             struct sb__why *why)
{
	char name[NAME_MAX_BYTES + 1];
	int err;

	if (!policy)
		return 0;
	err = copy(attr, len, name, why);
	return err ? err : check_pieces(policy, name, why);
}

int sb__policy_in_module(const struct sb__policy *policy, const char *module, const char *attr,
                         bool by_object, struct sb__why *why)
{
	size_t module_len = strlen(module), attr_len = strlen(attr);
	char name[NAME_MAX_BYTES + 1];
	bool allowed = false;
	int err;

	if (!policy)
		return 0;
	if (module_len == 0 || module_len + 1 + attr_len > NAME_MAX_BYTES)
		return not_allowed(why, "modules", module);
	memcpy(name, module, module_len);
	name[module_len] = ':';
	memcpy(name + module_len + 1, attr, attr_len + 1);
	err = check_split(policy, name, module_len, &allowed, why);
	if (!err && by_object && policy->allows_paths && !allowed)
		err = not_allowed(why, "modules", name);
	return err;
}
