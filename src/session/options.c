/* SPDX-License-Identifier: Apache-2.0 */
/* Session options: validation, defaults, and what may differ when a session is joined. */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "core.h"
#include "fail.h"
#include "ids.h"

#define MAX_REFS_LIMIT    100000000
#define TTL_LIMIT_SECONDS (INT64_C(100) * 365 * 86400)
#define ARENA_LIMIT_BYTES INT64_C(274877906944)

/* A caller built against an older or newer header: what it does not know is 0, what we do not know must be 0. */
static int copy_options(const sb_session_options *from, sb_session_options *to)
{
	const sb_session_options defaults = SB_SESSION_OPTIONS_INIT;
	const unsigned char *bytes = (const unsigned char *)from;

	*to = defaults;
	if (!from)
		return 0;
	if (from->size < offsetof(sb_session_options, max_refs))
		return sb__fail(SB_EINVAL, "session options: size is %zu; start with SB_SESSION_OPTIONS_INIT",
		                from->size);
	for (size_t i = sizeof(*to); i < from->size; i++)
		if (bytes[i])
			return sb__fail(SB_EINVAL,
			                "session options: made for a newer SnakeBridge than %s; leave out "
			                "what it lacks",
			                SB_VERSION_STRING);
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	to->size = sizeof(*to);
	return 0;
}

static int check_id(const sb_session_options *o, struct sb__wish *wish)
{
	if (!o->session_id) {
		wish->generated = true;
		return sb__session_id_make("session_", wish->rec.session_id);
	}
	int err = sb__session_id_check(o->session_id);

	if (!err)
		strcpy(wish->rec.session_id, o->session_id);
	return err;
}

static int check_numbers(const struct sb__core *core, const sb_session_options *o, struct sb__wish *wish)
{
	wish->max_refs_given = o->max_refs != SB_UNSET;
	if (wish->max_refs_given && (o->max_refs < 1 || o->max_refs > MAX_REFS_LIMIT))
		return sb__fail(SB_EINVAL, "max_refs is %lld; it must be 1 to %d", (long long)o->max_refs,
		                MAX_REFS_LIMIT);
	wish->rec.max_refs = wish->max_refs_given ? (uint32_t)o->max_refs
	                                          : (uint32_t)sb__core_number(core, SB__CONFIG_MAX_REFS);

	wish->quota_given = o->max_refs_per_process != SB_UNSET;
	if (wish->quota_given && (o->max_refs_per_process < 0 || o->max_refs_per_process > MAX_REFS_LIMIT))
		return sb__fail(SB_EINVAL,
		                "max_refs_per_process is %lld; it must be 0 (no quota) "
		                "or up to %d",
		                (long long)o->max_refs_per_process, MAX_REFS_LIMIT);
	wish->rec.max_refs_per_process = wish->quota_given ? (uint32_t)o->max_refs_per_process
	                                                   : (uint32_t)sb__core_number(
								     core, SB__CONFIG_MAX_PROCESS_REFS);
	wish->share_given = o->max_session_arena_bytes != SB_UNSET;
	if (wish->share_given &&
	    (o->max_session_arena_bytes < 0 || o->max_session_arena_bytes > ARENA_LIMIT_BYTES))
		return sb__fail(
			SB_EINVAL,
			"max_session_arena_bytes is %lld; it must be 0 (no limit of its own) or up to "
			"%lld",
			(long long)o->max_session_arena_bytes, (long long)ARENA_LIMIT_BYTES);
	wish->rec.max_session_arena_bytes = wish->share_given
	                                            ? (uint64_t)o->max_session_arena_bytes
	                                            : sb__core_number(core,
	                                                              SB__CONFIG_MAX_SESSION_ARENA_BYTES);

	wish->ttl_given = o->ttl_seconds != SB_UNSET;
	if (wish->ttl_given && (o->ttl_seconds < 0 || o->ttl_seconds > TTL_LIMIT_SECONDS))
		return sb__fail(SB_EINVAL, "ttl_seconds is %lld; it must be 0 (never) or up to %lld",
		                (long long)o->ttl_seconds, (long long)TTL_LIMIT_SECONDS);
	wish->rec.ttl_ms = 1000 * (wish->ttl_given ? (uint64_t)o->ttl_seconds
	                                           : sb__core_number(core, SB__CONFIG_TTL_SECONDS));
	return 0;
}

static int check_choices(const sb_session_options *o, struct sb__wish *wish)
{
	if ((int)o->designated < SB_DESIGNATED_UNSET || o->designated > SB_DESIGNATED_ATTACH_ONLY)
		return sb__fail(SB_EINVAL,
		                "designated is %d; use SB_DESIGNATED_SELF, _DEDICATED or _ATTACH_ONLY",
		                (int)o->designated);
	if ((int)o->on_full < SB_ON_FULL_UNSET || o->on_full > SB_ON_FULL_ERROR)
		return sb__fail(SB_EINVAL, "on_full is %d; use SB_ON_FULL_EVICT or SB_ON_FULL_ERROR",
		                (int)o->on_full);
	if (o->persistent != SB_UNSET && o->persistent != 0 && o->persistent != 1)
		return sb__fail(SB_EINVAL, "persistent is %d; use 0, 1 or SB_UNSET", o->persistent);
	if (o->release_on_exit != 0 && o->release_on_exit != 1)
		return sb__fail(SB_EINVAL, "release_on_exit is %d; use 0 or 1", o->release_on_exit);
	wish->designated_given = o->designated != SB_DESIGNATED_UNSET &&
	                         o->designated != SB_DESIGNATED_ATTACH_ONLY;
	wish->designated = o->designated ? o->designated : SB_DESIGNATED_SELF;
	wish->rec.designated_mode = wish->designated;
	wish->on_full_given = o->on_full != SB_ON_FULL_UNSET;
	wish->rec.on_full = o->on_full ? o->on_full : SB_ON_FULL_EVICT;
	wish->persistent_given = o->persistent != SB_UNSET;
	wish->rec.persistent = o->persistent == 1;
	wish->timeout_ms = o->timeout_ms;
	return 0;
}

static int add_tag(struct sb__session_rec *rec, const sb_tag *tag, size_t i)
{
	size_t key = tag->key ? strlen(tag->key) : 0, value = tag->value ? strlen(tag->value) : 0;

	if (key < 1 || key > 63 || value > 255)
		return sb__fail(
			SB_EINVAL,
			"tag %zu: a key has 1 to 63 bytes (this one %zu), a value up to 255 (this one %zu)",
			i, key, value);
	if (rec->tags_len + key + value + 2 > SB_TAGS_BYTES_MAX)
		return sb__fail(SB_EINVAL, "the tags take more than %d bytes in all", SB_TAGS_BYTES_MAX);
	memcpy(rec->tags + rec->tags_len, tag->key, key + 1);
	rec->tags_len += (uint32_t)key + 1;
	if (value)
		memcpy(rec->tags + rec->tags_len, tag->value, value);
	rec->tags[rec->tags_len + value] = 0;
	rec->tags_len += (uint32_t)value + 1;
	rec->tag_count++;
	return 0;
}

static int check_tags(const sb_session_options *o, struct sb__wish *wish)
{
	int err = 0;

	wish->tags_given = o->tag_count > 0;
	if (o->tag_count > SB_TAGS_MAX)
		return sb__fail(SB_EINVAL, "%zu tags; a session has at most %d", o->tag_count, SB_TAGS_MAX);
	if (o->tag_count && !o->tags)
		return sb__fail(SB_EINVAL, "tag_count is %zu but tags is NULL", o->tag_count);
	for (size_t i = 0; !err && i < o->tag_count; i++)
		err = add_tag(&wish->rec, &o->tags[i], i);
	return err;
}

static int add_pattern(struct sb__session_rec *rec, char sign, const char *pattern, const char *list,
                       size_t i)
{
	size_t len = pattern ? strlen(pattern) : 0;
	char *at = rec->policy + rec->policy_len;

	if (len < 1 || len > 255 || strcmp(pattern, ".") == 0)
		return sb__fail(SB_EINVAL,
		                "%s[%zu]: a pattern has 1 to 255 bytes (this one %zu), and more than a dot",
		                list, i, len);
	for (const char *p = pattern; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return sb__fail(SB_EINVAL, "%s[%zu]: a pattern has no control characters", list, i);
	if (rec->policy_len + len + 2 > SB_POLICY_BYTES_MAX)
		return sb__fail(SB_EINVAL, "the policy's patterns take more than %d bytes in all",
		                SB_POLICY_BYTES_MAX);
	at[0] = sign;
	memcpy(at + 1, pattern, len + 1);
	rec->policy_len += (uint32_t)len + 2;
	return 0;
}

static int add_patterns(struct sb__session_rec *rec, char sign, const char *const *patterns, size_t count,
                        const char *list)
{
	int err = 0;

	if (count > SB_POLICY_PATTERNS_MAX)
		return sb__fail(SB_EINVAL, "%zu patterns in %s; a session has at most %d", count, list,
		                SB_POLICY_PATTERNS_MAX);
	if (count && !patterns)
		return sb__fail(SB_EINVAL, "%s_count is %zu but %s is NULL", list, count, list);
	for (size_t i = 0; !err && i < count; i++)
		err = add_pattern(rec, sign, patterns[i], list, i);
	return err;
}

static int check_policy(const sb_session_options *o, struct sb__wish *wish)
{
	int err = add_patterns(&wish->rec, '+', o->allow, o->allow_count, "allow");

	wish->policy_given = o->allow_count + o->deny_count > 0;
	return err ? err : add_patterns(&wish->rec, '-', o->deny, o->deny_count, "deny");
}

int sb__wish_make(const struct sb__core *core, const sb_session_options *options, struct sb__wish *ret)
{
	sb_session_options o;
	int err = copy_options(options, &o);

	if (err)
		return err;
	memset(ret, 0, offsetof(struct sb__wish, rec.tags));
	err = check_id(&o, ret);
	if (!err)
		err = check_numbers(core, &o, ret);
	if (!err)
		err = check_choices(&o, ret);
	if (!err)
		err = check_tags(&o, ret);
	if (!err)
		err = check_policy(&o, ret);
	ret->rec.created_wall_ms = sb__wall_ms();
	ret->rec.created_ms = sb__now_ms();
	return err;
}

static int contradicts(const struct sb__session_rec *rec, const char *option, unsigned long long has,
                       unsigned long long wants)
{
	int err = sb__fail(SB_EOPTION,
	                   "session \"%s\" exists with %s %llu, not %llu: leave the option out to inherit "
	                   "it, or use another id",
	                   rec->session_id, option, has, wants);

	sb__fail_set_sessions(rec->session_id, NULL);
	return err;
}

int sb__wish_check_join(const struct sb__wish *wish, const struct sb__session_rec *rec)
{
	const struct sb__session_rec *w = &wish->rec;

	if (wish->max_refs_given && w->max_refs != rec->max_refs)
		return contradicts(rec, "max_refs", rec->max_refs, w->max_refs);
	if (wish->quota_given && w->max_refs_per_process != rec->max_refs_per_process)
		return contradicts(rec, "max_refs_per_process", rec->max_refs_per_process,
		                   w->max_refs_per_process);
	if (wish->share_given && w->max_session_arena_bytes != rec->max_session_arena_bytes)
		return contradicts(rec, "max_session_arena_bytes", rec->max_session_arena_bytes,
		                   w->max_session_arena_bytes);
	if (wish->ttl_given && w->ttl_ms != rec->ttl_ms)
		return contradicts(rec, "ttl_seconds", rec->ttl_ms / 1000, w->ttl_ms / 1000);
	if (wish->designated_given && w->designated_mode != rec->designated_mode)
		return contradicts(rec, "designated", rec->designated_mode, w->designated_mode);
	if (wish->on_full_given && w->on_full != rec->on_full)
		return contradicts(rec, "on_full", rec->on_full, w->on_full);
	if (wish->persistent_given && w->persistent != rec->persistent)
		return contradicts(rec, "persistent", rec->persistent, w->persistent);
	if (wish->policy_given &&
	    (w->policy_len != rec->policy_len || memcmp(w->policy, rec->policy, rec->policy_len) != 0))
		return sb__fail(SB_EOPTION,
		                "session \"%s\" exists with another policy (allow, deny): leave both out to "
		                "inherit it",
		                rec->session_id);
	if (wish->tags_given &&
	    (w->tags_len != rec->tags_len || memcmp(w->tags, rec->tags, rec->tags_len) != 0))
		return sb__fail(SB_EOPTION,
		                "session \"%s\" exists with other tags: leave them out to inherit them",
		                rec->session_id);
	return 0;
}
