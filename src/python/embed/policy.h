/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which names a session's callers may reach; what the patterns mean is said at sb_session_options. Pure text: no
 * Python here. resolve.c is the only one that asks.
 */
#ifndef SB_EMBED_POLICY_H
#define SB_EMBED_POLICY_H

#include <stdbool.h>
#include <stddef.h>

struct sb__policy;
struct sb__why;

/* *ret becomes NULL where nothing is said, which allows everything. 0 or SB_ENOMEM. */
int sb__policy_make(const char *text, size_t len, struct sb__policy **ret);
void sb__policy_free(struct sb__policy *policy);

/* All of these: 0, or SB_EDENIED with pattern and name in why. policy may be NULL. */

/* A path as sb_call() and sb_get() take it, with or without a colon, before anything of it is imported. */
int sb__policy_path(const struct sb__policy *policy, const char *path, size_t len, struct sb__why *why);
/* A dotted attribute name that starts at an object of a caller's, before anything of it is looked up. */
int sb__policy_attr(const struct sb__policy *policy, const char *name, size_t len, struct sb__why *why);
/* A dotted name that starts at a module, likewise; its first step is still to be checked. */
int sb__policy_denied_pieces(const struct sb__policy *policy, const char *name, size_t len,
                             struct sb__why *why);
/* A name about to be looked up in a module that a walk has come to. by_object: the walk began at an object. */
int sb__policy_in_module(const struct sb__policy *policy, const char *module, const char *name,
                         bool by_object, struct sb__why *why);

#endif
