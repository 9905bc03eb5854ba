/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts: the thread's current session, its auto-session, with-blocks, and which session a call goes to.
 *
 * Resolution happens in one place, sb__resolve(): named > the ref's own > current context > auto-session.
 *
 * Crash: private memory only. A killed process's auto-sessions lose their owner as any session does.
 */
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "fail.h"
#include "ids.h"
#include "os_linux.h"

static __thread sb_session *current;

/* The thread's auto-session, closed when the thread ends. */
struct auto_session {
	sb_session *session;
	struct sb__core *core;
	uint64_t epoch;
};
static __thread struct auto_session *automatic;
static pthread_key_t auto_key;
static pthread_once_t auto_once = PTHREAD_ONCE_INIT;

sb_session *sb__context_set(sb_session *session)
{
	sb_session *previous = current;

	current = session;
	return previous;
}

sb_session *sb__context_current(void)
{
	return current;
}

void sb__context_drop(const sb_session *session)
{
	if (current == session)
		current = NULL;
	if (automatic && automatic->session == session)
		automatic->session = NULL;
}

/* ── auto-sessions ── */

static void auto_destroy(void *arg)
{
	struct auto_session *a = arg;

	/* The bridge may have been closed before the thread ended, and its sessions with it. */
	if (a->session && a->epoch == sb__fork_epoch() && sb__core_lock_if_open(a->core)) {
		if (sb__session_is_open_locked(a->core, a->session))
			sb__session_close_locked(a->session);
		pthread_mutex_unlock(&a->core->lock);
	}
	free(a);
	automatic = NULL;
}

static void auto_key_make(void)
{
	pthread_key_create(&auto_key, auto_destroy);
}

static struct auto_session *auto_of_thread(void)
{
	if (!automatic) {
		struct auto_session *a = calloc(1, sizeof(*a));

		pthread_once(&auto_once, auto_key_make);
		if (!a || pthread_setspecific(auto_key, a)) {
			free(a);
			return NULL;
		}
		automatic = a;
	}
	if (automatic->epoch != sb__fork_epoch())
		automatic->session = NULL; /* the parent's thread's: a child's makes its own */
	if (automatic->session && sb__core_lock_if_open(automatic->core)) {
		if (!sb__session_is_open_locked(automatic->core, automatic->session))
			automatic->session = NULL;
		pthread_mutex_unlock(&automatic->core->lock);
	} else {
		automatic->session = NULL;
	}
	return automatic;
}

static int auto_open(sb_bridge *bridge, sb_session **ret)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	struct auto_session *a = auto_of_thread();
	char id[SB_SESSION_ID_MAX + 1];
	int err;

	if (!a)
		return sb__fail_memory("the thread's auto-session");
	if (a->session) {
		*ret = a->session;
		return 0;
	}
	if (!bridge)
		bridge = sb__core_default();
	if (!bridge)
		return sb__fail(SB_ENOBRIDGE, "no session was named, none is current, and no bridge is open: "
		                              "call sb_bridge_open() first");
	err = sb__session_id_make("auto_", id);
	if (err)
		return err;
	options.session_id = id;
	err = sb__session_open(bridge, &options, ret);
	if (err)
		return err;
	(*ret)->is_auto = true;
	a->session = *ret;
	a->core = bridge->core;
	a->epoch = sb__fork_epoch();
	return 0;
}

int sb__context_session(sb_bridge *bridge, sb_session **ret)
{
	if (current) {
		*ret = current;
		return 0;
	}
	return auto_open(bridge, ret);
}

/* ── resolution ── */

/* The session of a ref that came from elsewhere: a handle that is open, else one made for it and kept. */
static int session_of_ref(const sb_ref *ref, sb_session **ret)
{
	sb_session_options options = SB_SESSION_OPTIONS_INIT;
	sb_bridge *bridge = sb__core_default();
	int err;

	if (current && strcmp(current->id, ref->session_id) == 0) {
		*ret = current;
		return 0;
	}
	if (!bridge)
		return sb__fail(SB_ENOBRIDGE,
		                "the ref's session \"%s\" needs a bridge, and none is open: call "
		                "sb_bridge_open() first",
		                ref->session_id);
	*ret = sb__session_find(bridge->core, ref->session_id, false);
	if (*ret)
		return 0;
	options.session_id = ref->session_id;
	options.designated = SB_DESIGNATED_ATTACH_ONLY;
	err = sb__session_open(bridge, &options, ret);
	if (!err)
		(*ret)->kept = true;
	return err;
}

int sb__resolve(sb_session *named, const sb_ref *target, sb_session **ret)
{
	if (named) {
		*ret = named;
		return 0;
	}
	if (target)
		return session_of_ref(target, ret);
	return sb__context_session(NULL, ret);
}

/* ── with-blocks ── */

/* A handle kept by an earlier block serves again, if the session has not ended since. */
static int enter_kept(sb_bridge *bridge, const sb_session_options *options, sb_session **ret)
{
	sb_session_info info = { .size = sizeof(info) };
	sb_session *s = options && options->session_id
	                        ? sb__session_find(bridge->core, options->session_id, true)
	                        : NULL;
	int err;

	if (s && sb__session_info(s, &info) == 0 && info.state != SB_SESSION_ENDED) {
		*ret = s;
		return 0;
	}
	if (s)
		sb__session_close(s);
	err = sb__session_open(bridge, options, ret);
	if (!err)
		(*ret)->kept = true;
	return err;
}

int sb__scope_enter(sb_scope *scope, sb_bridge *bridge, const sb_session_options *options)
{
	sb_session *session;
	bool own = options && options->size >= sizeof(*options) && options->release_on_exit;
	int err = own ? sb__session_open(bridge, options, &session) : enter_kept(bridge, options, &session);

	if (err)
		return err;
	scope->session = session;
	scope->release_on_exit = own;
	scope->once = 0;
	scope->previous = sb__context_set(session);
	return 0;
}

void sb__scope_leave(sb_scope *scope)
{
	sb_session *session = scope->session;

	if (!session)
		return;
	scope->session = NULL;
	sb__context_set(scope->previous);
	if (scope->release_on_exit)
		sb__session_close(session);
}
